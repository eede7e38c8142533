"""No name leads out of an output, and no link inside of it is followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from restyle.core.errors import FatalError
from restyle.pipeline.ledger.parquet_files import open_parquet
from restyle.pipeline.results.latent_file import open_latents
from restyle.pipeline.results.table_source import table_source
from restyle.pipeline.storage.filesystem import Storage, open_storage

OUTWARD = ["../victim", "latents/../../victim", "/etc/victim", "a//victim", "./victim", "a/\0b"]
ACTIONS: dict[str, Callable[[Storage, str], object]] = {
    "write": lambda storage, name: storage.write(name, b"x"),
    "read": lambda storage, name: storage.read(name),
    "read many": lambda storage, name: storage.read_many([name]),
    "delete": lambda storage, name: storage.delete(name),
    "list": lambda storage, name: storage.sizes(name),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for an output, beside what must stay as it is."""
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "part-1.parquet").write_bytes(b"precious")
    return tmp_path / "out"


def outside(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", OUTWARD)
@pytest.mark.parametrize("action", sorted(ACTIONS))
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_a_name_that_leads_outward_is_refused(
    out: Path, action: str, name: str, remote: bool
) -> None:
    before = outside(out)
    storage = open_storage("memory://containment/out" if remote else str(out))
    with pytest.raises(FatalError, match="does not lie inside") as caught:
        ACTIONS[action](storage, name)
    assert "\n" not in str(caught.value)
    assert outside(out) == before


@pytest.mark.parametrize("name", OUTWARD)
def test_parquet_files_are_named_inside_too(out: Path, name: str) -> None:
    for opened in (open_parquet, open_latents):
        for uri in (str(out), "memory://containment/out"):
            with pytest.raises(FatalError, match="does not lie inside"), opened(uri, name):
                pass
    with pytest.raises(FatalError, match="does not lie inside"):
        table_source(str(out), [name])


def test_a_linked_folder_is_not_followed(out: Path) -> None:
    (out / "latents").symlink_to(out.parent / "outside")
    before = outside(out)
    for act in (
        lambda: ACTIONS["list"](open_storage(str(out)), "latents"),
        *(
            lambda act=act: act(open_storage(str(out)), "latents/part-1.parquet")
            for name, act in ACTIONS.items()
            if name != "list"
        ),
        lambda: open_storage(str(out)).sweep("latents"),
        lambda: table_source(str(out), ["latents/part-1.parquet"]),
    ):
        with pytest.raises(FatalError, match="latents is a link"):
            act()
    assert outside(out) == before


@pytest.mark.parametrize("target", ["../victim", "../nothing", "../outside"])
def test_a_linked_file_is_listed_but_not_read(out: Path, target: str) -> None:
    (out / "_ledger").mkdir()
    (out / "_ledger" / "unit-1.json").symlink_to(target)
    storage = open_storage(str(out))
    assert list(storage.sizes("_ledger")) == ["_ledger/unit-1.json"]
    for action in ("read", "read many"):
        with pytest.raises(FatalError, match=r"unit-1\.json is a link"):
            ACTIONS[action](storage, "_ledger/unit-1.json")
    with (
        pytest.raises(FatalError, match="is a link"),
        open_parquet(str(out), "_ledger/unit-1.json"),
    ):
        pass


def test_a_link_is_replaced_and_removed_itself(out: Path) -> None:
    storage = open_storage(str(out))
    for name in ("run.json", "report.html"):
        (out / name).symlink_to("../victim")
    storage.write("run.json", b"{}")
    storage.delete("report.html")
    assert (out / "run.json").read_bytes() == b"{}"
    assert not (out / "run.json").is_symlink()
    assert (out.parent / "victim").read_bytes() == b"precious"


def test_the_output_itself_may_be_behind_a_link(out: Path, tmp_path: Path) -> None:
    (tmp_path / "shortcut").symlink_to(out)
    storage = open_storage(str(tmp_path / "shortcut"))
    storage.write("latents/a", b"x")
    assert storage.read("latents/a") == b"x"
    assert (out / "latents" / "a").read_bytes() == b"x"
