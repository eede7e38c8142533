"""Revisions from end to end: inputs that changed, and rejects that are tried again."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from restyle.core.errors import FatalError, RejectReason, SpecError
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.job import UnitResult
from restyle.pipeline.execution.request import Outcome, Request
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.inversion.retry import (
    MAX_UNIT,
    TRANSIENT,
    Retry,
    reasons_named,
    retry_rejects,
)
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger import revisions
from restyle.pipeline.ledger.manifest import UnitRef, read_units
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.storage.filesystem import open_storage
from tests.pipeline.in_process import run_units
from tests.pipeline.inversion.test_run import Heard, engine

Units = Callable[[InversionJob, Sequence[UnitRef]], Iterator[UnitResult]]


class World:
    """Inputs, an output, and what can be done with them."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.images, self.out = folder / "images", folder / "out"
        self.images.mkdir()
        self._model = model
        for index in range(10):
            self.paint(f"{index}.png", index)
        for name in ("x.png", "y.png"):
            (self.images / name).write_bytes(b"text")
        (self.images / "z.png").write_bytes(b"")

    def paint(self, name: str, seed: int) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.images / name)

    def invert(self, units: Units = run_units) -> Outcome:
        settings = InversionSettings(
            model=str(self._model), steps=2, align=False, metrics=(), dtype="fp32"
        )
        request = Request(str(self.images), str(self.out), settings, device="cpu")
        return invert_images(request, Heard(), engine(units))

    def retry(self, *reasons: str, units: Units = run_units, **options: Any) -> Outcome:
        self.heard = Heard()
        retry = Retry(str(self.out), reasons_named(reasons), device="cpu", **options)
        return retry_rejects(retry, self.heard, engine(units))

    def rows(self, dataset: str) -> list[tuple[str, int]]:
        """Names and revisions, sorted."""
        frame = pd.read_parquet(self.out / dataset)
        names = [Path(source).name for source in frame.source]
        return sorted(zip(names, frame.revision.tolist(), strict=True))

    def problems(self) -> list[str]:
        return verify(str(self.out)).problems


FACES = [(f"{index}.png", 1) for index in range(10)]


@pytest.fixture
def world(tmp_path: Path, tiny_model: Path) -> World:
    return World(tmp_path, tiny_model)


def test_inputs_that_changed_get_rows_beside_the_old_ones(world: World) -> None:
    world.invert()
    world.paint("3.png", 99)
    world.paint("x.png", 98)
    outcome = world.invert()
    assert outcome.images == 2
    assert world.rows("latents") == sorted([*FACES, ("3.png", 2), ("x.png", 2)])
    assert world.rows("rejects") == [("y.png", 1), ("z.png", 1)]
    frame = pd.read_parquet(world.out / "latents")
    of_3 = frame[frame.source.str.endswith("3.png")].sort_values("revision")
    assert not np.allclose(of_3.latent.iloc[0], of_3.latent.iloc[1])
    assert world.problems() == []
    summary = outcome.summary
    # Thirteen inputs and a second revision of one; the reject of the other is gone.
    assert (summary.images, summary.faces, summary.rejected) == (14, 12, 2)
    record = json.loads((world.out / "run.json").read_bytes())
    assert (record["new"], record["changed"], record["vanished"]) == (0, 2, 0)


def test_inputs_that_vanished_keep_their_rows(world: World) -> None:
    world.invert()
    (world.images / "4.png").unlink()
    world.paint("new.png", 50)
    world.invert()
    assert ("4.png", 1) in world.rows("latents")
    record = json.loads((world.out / "run.json").read_bytes())
    assert (record["new"], record["changed"], record["vanished"]) == (1, 0, 1)
    assert world.problems() == []


def test_rejects_that_are_sound_now_become_faces(world: World) -> None:
    world.invert()
    stamp = (world.images / "x.png").stat()
    world.paint("x.png", 98)
    outcome = world.retry("not_an_image")
    assert stamp.st_size != (world.images / "x.png").stat().st_size
    assert any(line.startswith("2 rejected inputs are tried again") for line in world.heard.lines)
    assert outcome.images == 2
    assert world.rows("latents") == sorted([*FACES, ("x.png", 2)])
    assert world.rows("rejects") == [("y.png", 2), ("z.png", 1)]
    assert (outcome.summary.images, outcome.summary.rejected) == (13, 2)
    assert world.problems() == []
    record = json.loads((world.out / "run.json").read_bytes())
    assert record["asked"]["command"] == "retry-rejects"
    assert len(list((world.out / "rejects").iterdir())) == 2


def test_only_the_reasons_asked_for_and_each_time_a_higher_revision(world: World) -> None:
    world.invert()
    world.retry("empty")
    world.retry("empty")
    assert world.rows("rejects") == [("x.png", 1), ("y.png", 1), ("z.png", 3)]
    outcome = world.retry()
    assert outcome.images == 0
    assert world.heard.lines[-1] == "nothing to do: every input is accounted for already"
    world.retry("all")
    assert world.rows("rejects") == [("x.png", 2), ("y.png", 2), ("z.png", 4)]
    assert world.problems() == []


def test_reasons_by_name() -> None:
    assert reasons_named([]) == TRANSIENT
    assert reasons_named(["empty", "empty"]) == (RejectReason.EMPTY,)
    assert set(reasons_named(["all"])) == set(RejectReason)
    with pytest.raises(SpecError, match="no reject has the reason nonsense; there are empty,"):
        reasons_named(["nonsense"])


def test_retried_units_are_small(world: World) -> None:
    for index in range(100):
        (world.images / f"t{index:03d}.png").write_bytes(b"text")
    world.invert()
    before = len(read_units(open_storage(str(world.out))))
    world.retry("not_an_image")
    units = read_units(open_storage(str(world.out)))[before:]
    assert sum(unit.images for unit in units) == 102
    assert max(unit.images for unit in units) <= MAX_UNIT


def test_a_retry_that_is_killed_before_its_units_are_done_keeps_the_rejects(world: World) -> None:
    world.invert()

    def killed(job: InversionJob, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        raise SystemExit
        yield

    with pytest.raises(SystemExit):
        world.retry("all", units=killed)
    assert world.rows("rejects") == [("x.png", 1), ("y.png", 1), ("z.png", 1)]
    assert world.problems() == ["3 inputs in 1 unit are not done; run the same command again"]
    # Not planned a second time, whichever command goes on.
    assert world.invert().images == 3
    assert world.rows("rejects") == [("x.png", 2), ("y.png", 2), ("z.png", 2)]
    assert world.problems() == []


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize(
    ("point", "goes_on"),
    [("before", "invert"), ("write", "retry"), ("commit", "invert"), ("delete", "invert")],
)
def test_killed_while_the_old_rejects_are_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str, goes_on: str
) -> None:
    """Killed after the new revision is committed, at each step of dropping the old row."""
    world.invert()

    def dies(*_: object, **__: object) -> None:
        raise _KilledError

    storage = type(open_storage(str(world.out)))
    with monkeypatch.context() as patch, contextlib.suppress(_KilledError):
        if point == "before":
            patch.setattr("restyle.pipeline.accounting.compaction.drop_outdated_rejects", dies)
        elif point == "write":
            patch.setattr(revisions, "WrittenFile", dies)
        elif point == "commit":
            patch.setattr(revisions.ledger, "commit", _only_in_outdated(dies))
        else:
            patch.setattr(storage, "delete", _only_rejects(storage.delete, dies))
        world.retry("not_an_image")
        raise AssertionError("it should have been killed")
    found = world.problems()
    if point == "before":
        # Both rows are there, which is no fault.
        assert found == []
        both = [(name, revision) for name in ("x.png", "y.png") for revision in (1, 2)]
        assert world.rows("rejects") == [*both, ("z.png", 1)]
    else:
        assert all("belongs to no unit" in problem for problem in found)
        assert len(found) == 1
    outcome = world.invert() if goes_on == "invert" else world.retry("not_an_image")
    revision = 2 if goes_on == "invert" else 3
    assert outcome.images == (0 if goes_on == "invert" else 2)
    assert world.rows("rejects") == [("x.png", revision), ("y.png", revision), ("z.png", 1)]
    assert world.problems() == []
    assert (outcome.summary.images, outcome.summary.rejected) == (13, 3)


def _only_in_outdated(dies: Callable[..., None]) -> Callable[..., None]:
    from restyle.pipeline.ledger.entries import commit

    def committed(storage: Any, record: Any) -> None:
        if record.superseded:
            dies()
        commit(storage, record)

    return committed


def _only_rejects(delete: Callable[..., None], dies: Callable[..., None]) -> Callable[..., None]:
    def deleted(self: Any, name: str) -> None:
        if name.startswith("rejects/"):
            dies()
        delete(self, name)

    return deleted


def test_the_model_is_found_where_the_last_run_found_it(
    world: World, tmp_path: Path, tiny_model: Path
) -> None:
    world.invert()
    record = json.loads((world.out / "run.json").read_bytes())
    assert Path(record["model"]["spec"]) == tiny_model
    (world.out / "run.json").unlink()
    with pytest.raises(FatalError, match="no model is called 'tiny:restyle-psp'"):
        world.retry("empty")
    moved = tmp_path / "moved"
    shutil.copytree(tiny_model, moved)
    assert world.retry("empty", model=f"{moved}:restyle-psp").images == 1
    assert world.problems() == []


def test_faults_found_while_planning_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from restyle.pipeline.inversion import retry as retry_module

    world.invert()
    read = retry_module.images_of
    monkeypatch.setattr(
        retry_module,
        "images_of",
        lambda *given: tuple(replace(image, fault="empty|it is") for image in read(*given)),
    )
    assert world.retry("empty").images == 0
    assert any("still rejected: 1 input found faulty" in line for line in world.heard.lines)


def test_an_output_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="holds no output of restyle"):
        retry_rejects(Retry(str(tmp_path / "nothing")))
    assert not (tmp_path / "nothing").exists()
