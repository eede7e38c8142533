"""An entry counts in its own place alone, and names files of its own alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from restyle.core.errors import FatalError
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.report.report import write_report
from restyle.pipeline.results.latents import read_latents
from restyle.pipeline.results.query import query
from tests.pipeline.fabricated import Made, fabricate

READERS: dict[str, Callable[[str], object]] = {
    "verify": verify,
    "status": read_status,
    "query": lambda out: query(out, "select count(*) from latents").read_all(),
    "read_latents": read_latents,
    "report": lambda out: write_report(Output.at(out)),
    "compact": compact,
}


def entries(out: Path, kind: str = "unit") -> list[Path]:
    return sorted((out / "_ledger").glob(f"{kind}-*.json"))


def edit_entry(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record))


def renamed_file(name: str) -> Callable[[dict[str, object]], None]:
    def change(record: dict[str, object]) -> None:
        files = record["files"]
        assert isinstance(files, list)
        files[0]["name"] = name

    return change


@pytest.fixture(params=["units", "packs"])
def kind(request: pytest.FixtureRequest) -> str:
    return "pack" if request.param == "packs" else "unit"


@pytest.fixture
def out(tmp_path: Path, kind: str) -> Path:
    """Four units, or two packs of two."""
    fabricate(tmp_path / "out", Made(faces=16, rejects=2, unit=5))
    if kind == "pack":
        sizes = [path.stat().st_size for path in (tmp_path / "out").rglob("part-*")]
        compact(str(tmp_path / "out"), target=2 * max(sizes) + 1)
        assert len(entries(tmp_path / "out", "pack")) == 2
    return tmp_path / "out"


def copy_over_another(out: Path, kind: str) -> None:
    first, second, *_ = entries(out, kind)
    shutil.copy(first, second)


def copy_to_another_name(out: Path, kind: str) -> None:
    first, *_ = entries(out, kind)
    shutil.copy(first, first.with_name(f"{kind}-{'ab' * 8}.json"))


def rename(out: Path, kind: str) -> None:
    first, *_ = entries(out, kind)
    first.rename(first.with_name(f"{kind}-{'ab' * 8}.json"))


def swap(out: Path, kind: str) -> None:
    first, second, *_ = entries(out, kind)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def cut(out: Path, kind: str) -> None:
    first, *_ = entries(out, kind)
    first.write_bytes(first.read_bytes()[:-40])


def name(value: str) -> Callable[[Path, str], None]:
    return lambda out, kind: edit_entry(entries(out, kind)[0], renamed_file(value))


def name_files_of_another(out: Path, kind: str) -> None:
    first, second, *_ = entries(out, kind)
    other = json.loads(second.read_bytes())["files"]
    edit_entry(first, lambda record: record.update(files=other))


TAMPERED = {
    "copied over another": copy_over_another,
    "copied to another name": copy_to_another_name,
    "renamed": rename,
    "swapped": swap,
    "cut": cut,
    "names another's files": name_files_of_another,
    "names the settings": name("_ledger/settings.json"),
    "names a plan": name("_ledger/plan-000000.parquet"),
    "names what lies outside": name("../victim"),
    "names an absolute path": name("/etc/passwd"),
    "names a file of nobody": name("latents/mine.parquet"),
}


@pytest.mark.parametrize("how", sorted(TAMPERED))
def test_every_reader_refuses_it(out: Path, kind: str, how: str) -> None:
    TAMPERED[how](out, kind)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for reader, read in READERS.items():
        with pytest.raises(FatalError, match=r"is damaged|is done, but in no plan") as caught:
            read(str(out))
        assert re.search(rf"_ledger/{kind}-|unit abab", str(caught.value)), reader
        assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", ["packs"], indirect=True)
def test_a_unit_in_two_packs_is_refused(out: Path, kind: str) -> None:
    first, second = (json.loads(path.read_bytes()) for path in entries(out, kind))
    first["units"].append(second["units"][0])
    first["generation"] = 2
    entries(out, kind)[0].write_text(json.dumps(first))
    for reader, read in READERS.items():
        with pytest.raises(FatalError, match="both hold unit") as caught:
            read(str(out))
        assert "\n" not in str(caught.value), reader
