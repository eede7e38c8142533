"""What was tampered with is named, set aside, and done again; what is not ours is left alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.accounting.compaction import compact
from restyle.pipeline.accounting.repair import repair
from restyle.pipeline.accounting.status import read_status
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.inversion.retry import Retry, retry_rejects
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.input_plan import InputPlan, plan_only
from restyle.pipeline.report.report import write_report
from restyle.pipeline.results.latents import read_latents
from restyle.pipeline.results.query import query
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.storage.filesystem import Part, Storage, open_storage
from restyle.pipeline.storage.lock import driver_lock
from tests.pipeline.fabricated import Made, fabricate
from tests.pipeline.in_process import in_process
from tests.soak.full_disk import World
from tests.soak.tampered import STARTS, Pointless, cases, check, make_outputs, tree

EVERY = {"begun": 7, "revised": 17, "packed": 13, "edits": 23}
"""One case of so many is tried; ``python -m tests.soak.tampered`` tries all."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> World:
    return make_outputs(tmp_path_factory.mktemp("world"), tiny_model)


@pytest.mark.parametrize("start", STARTS)
def test_tampered_outputs_are_named_and_mended(world: World, start: str, tmp_path: Path) -> None:
    tried = 0
    for case in list(cases(start))[:: EVERY[start]]:
        try:
            assert check(world, case, tmp_path) == [], case.name
        except Pointless:
            continue
        tried += 1
    assert tried >= 3


COMMANDS: dict[str, Callable[[World, Path], object]] = {
    "invert": lambda world, out: invert_images(world.request("images", out), engine=in_process),
    "plan": lambda world, out: plan_only(
        InputPlan(str(world.folder / "images"), str(out), InputOptions()), Listener()
    ),
    "retry-rejects": lambda _, out: retry_rejects(Retry(str(out)), engine=in_process),
    "status": lambda _, out: read_status(str(out)),
    "verify": lambda _, out: verify(str(out)),
    "query": lambda _, out: query(str(out), "select 1"),
    "read_latents": lambda _, out: read_latents(str(out)),
    "report": lambda _, out: write_report(Output.at(str(out))),
    "compact": lambda _, out: compact(str(out)),
    "edit": lambda world, out: edit(replace(world.edits(out / "edits"), out=str(out))),
    "edit to": lambda world, out: edit(world.edits(out)),
}


@pytest.mark.parametrize("start", ["begun", "packed", "edits"])
def test_lost_settings_are_told_alike_and_written_again(
    world: World, start: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(world.folder / start, out)
    (settings,) = (out / "_ledger").glob("*settings.json")
    kept = settings.read_bytes()
    settings.unlink()
    told = set()
    for command in COMMANDS.values():
        with pytest.raises(FatalError, match="has lost the settings") as caught:
            command(world, out)
        told.add(str(caught.value))
    assert len(told) == 1
    assert f"restyle repair {out}" in told.pop()
    assert len(repair(str(out), apply=True).done) == 1
    assert settings.read_bytes() == kept
    assert verify(str(out)).problems == []


def test_settings_that_no_record_has_are_not_made_up(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(world.folder / "begun", out)
    for path in (out / "run.json", *(out / "_ledger").glob("run-*"), *out.glob("_ledger/sett*")):
        path.unlink()
    before = tree(out)
    with pytest.raises(FatalError, match=r"neither run\.json nor another record has them"):
        repair(str(out), apply=True)
    assert {path: data for path, data in tree(out).items() if "driver-" not in path.name} == before


@pytest.fixture
def made(tmp_path: Path) -> Path:
    fabricate(tmp_path / "out", Made(faces=12, rejects=2, unit=5))
    return tmp_path / "out"


def test_what_is_not_ours_is_left(made: Path) -> None:
    foreign = {
        made / "latents" / "notes.txt": b"mine",
        made / "latents" / "part-000009-abcdef12-12345678.parquet": b"mine too",
        made / "rejects" / "cut.parquet": b"PAR1 and no more",
    }
    for path, data in foreign.items():
        path.write_bytes(data)
    repaired = repair(str(made), apply=True)
    assert repaired.done == []
    assert len(repaired.left) == 3
    assert {path: path.read_bytes() for path in foreign} == foreign
    assert len(verify(str(made)).problems) == 3


def test_nothing_is_deleted(made: Path) -> None:
    stray = made / "latents" / "part-000009-abcdef12-12345678.parquet"
    shutil.copy(next((made / "latents").iterdir()), stray)
    (lost,) = (made / "steps").glob("part-000001*")
    lost.unlink()
    before = tree(made)
    repaired = repair(str(made), apply=True)
    assert len(repaired.done) == 4
    assert not stray.exists()
    after = tree(made)
    assert sorted(after.values()) == sorted(before.values())
    moved = [path for path in after if "_set-aside" in path.parts]
    assert len(moved) == 4


@pytest.mark.parametrize(
    "name", ["latents/part-", "_ledger/plan-", "_ledger/settings", "_ledger/unit-"]
)
def test_what_cannot_be_read_now_is_not_taken_for_damaged(
    made: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = type(open_storage(str(made)))
    read_parts = local.read_parts

    def refused(self: Storage, parts: Sequence[Part]) -> list[bytes]:
        for part in parts:
            if part.name.startswith(name):
                raise FatalError(f"cannot read {part.name}: permission denied")
        return read_parts(self, parts)

    before = tree(made)
    monkeypatch.setattr(local, "read_parts", refused)
    with pytest.raises(FatalError, match="permission denied"):
        repair(str(made), apply=True)
    assert tree(made) == before


def test_not_while_a_run_is_at_work(made: Path) -> None:
    storage = open_storage(str(made))
    with driver_lock(storage, Listener()), pytest.raises(SpecError, match="in use by another run"):
        repair(str(made), apply=True)


def test_files_of_a_driver_that_woke_up_are_removed(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(world.folder / "begun", out)
    late = sorted((out / "latents").iterdir())
    written = {path: path.read_bytes() for path in [*late, *(out / "steps").iterdir()]}
    compact(str(out))
    # It was stopped in the middle of a unit, and its worker goes on although all is merged.
    for path, data in written.items():
        path.write_bytes(data)
    assert len(verify(str(out)).problems) == len(written)
    invert_images(world.request("images", out), engine=in_process)
    assert verify(str(out)).problems == []
    assert not any(path.exists() for path in written)


@pytest.mark.parametrize("damage", ["file", "row", "unit"])
def test_what_a_pack_replaced_goes_only_when_the_pack_is_sound(
    world: World, tmp_path: Path, damage: str
) -> None:
    out, copy = tmp_path / "out", tmp_path / "copy"
    shutil.copytree(world.folder / "begun", out)
    shutil.copytree(out, copy)
    compact(str(out))
    # As when it was killed before it removed anything.
    shutil.copytree(copy, out, dirs_exist_ok=True)
    (pack,) = (out / "_ledger").glob("pack-*")
    if damage == "file":
        (path,) = (out / "latents").glob("part-pack-*")
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "row":
        pack.write_text(pack.read_text().replace('"faces":8', '"faces":7'))
    else:
        next((out / "_ledger").glob("plan-*")).unlink()
    before = tree(out)
    with pytest.raises(FatalError, match="restyle repair"):
        compact(str(out))
    assert tree(out) == before
    repair(str(out), apply=True)
    invert_images(world.request("images", out), engine=in_process)
    assert verify(str(out)).problems == []
    assert len(read_latents(str(out))[0]) == 10
