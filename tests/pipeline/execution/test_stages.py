"""What an actor does with a unit, without Ray and without child processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import TransientError
from restyle.pipeline.decoding.sandbox import CropSettings
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop
from restyle.pipeline.inversion.inverter import Inverter
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.inversion.model_identity import identify
from restyle.pipeline.inversion.stages import InvertStage
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.attempts import ALONE_FROM, MAX_TRIES, Attempts
from restyle.pipeline.ledger.settings import InversionSettings, ResolvedSettings
from restyle.pipeline.planning.defaults import resolve
from restyle.pipeline.storage.filesystem import Storage, open_storage


def settings_of(model: Path) -> ResolvedSettings:
    found = identify(str(model))
    return resolve(
        InversionSettings(model=str(model), steps=2, metrics=(), reconstructions="none"),
        found.facts,
        "fp32",
    )


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> InversionJob:
    return InversionJob(
        source=str(tmp_path),
        out=str(tmp_path / "out"),
        model=str(tiny_model),
        settings=settings_of(tiny_model),
        crop=CropSettings(align=False, faces="largest", size=(64, 64)),
        device="cpu",
        batch_size=4,
        threads=1,
    )


@pytest.fixture
def storage(job: InversionJob) -> Storage:
    return open_storage(job.out)


@contextlib.contextmanager
def stage_of(job: InversionJob) -> Iterator[InvertStage]:
    stage = InvertStage(job, 1)
    try:
        yield stage
    finally:
        stage.close()


def unit(name: str, images: int = 3) -> AlignedUnit:
    rng = np.random.default_rng(images)
    crops = [
        Crop(
            f"{number:032x}",
            0,
            f"{number}.png",
            rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
            np.zeros((4, 2)),
        )
        for number in range(images)
    ]
    return AlignedUnit(name, images, crops, [], 0.1)


def test_a_try_is_counted_while_it_lasts(
    job: InversionJob, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, set[str]]] = []
    original = Inverter.__call__

    def spy(self: Inverter, aligned: AlignedUnit) -> Any:
        seen.append((Attempts(storage).failed("u"), ledger.read_entries(storage).units))
        return original(self, aligned)

    monkeypatch.setattr(Inverter, "__call__", spy)
    Attempts(storage).begin("u", 1)
    with stage_of(job) as stage:
        result = stage(unit("u"))
    assert result.record is not None
    assert result.record.faces == 3
    # The second try was on record before it began, and is forgotten with the entry.
    assert seen == [(2, set())]
    assert Attempts(storage).failed("u") == 0
    assert ledger.read_entries(storage).units == {"u"}


def test_a_unit_that_ends_its_worker_again_and_again_is_given_up(
    job: InversionJob, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(self: Inverter, aligned: AlignedUnit) -> Any:
        raise AssertionError("it would have died")

    monkeypatch.setattr(Inverter, "__call__", deadly)
    Attempts(storage).begin("u", MAX_TRIES)
    with stage_of(job) as stage:
        result = stage(unit("u"))
        assert result.record is not None
        assert (result.record.faces, result.record.rejects) == (0, {"crashed": 3})
        rows = pq.read_table(Path(job.out) / "rejects").to_pylist()
        assert {row["stage"] for row in rows} == {"invert"}
        assert f"ended the worker {MAX_TRIES} times" in rows[0]["message"]
        assert Attempts(storage).failed("u") == 0
        # Nine tries are not yet ten.
        Attempts(storage).begin("v", MAX_TRIES - 1)
        assert "would have died" in stage(unit("v")).error
        assert Attempts(storage).failed("v") == MAX_TRIES


@pytest.mark.parametrize(("failed", "alone"), [(ALONE_FROM - 1, False), (ALONE_FROM, True)])
def test_a_suspect_is_computed_alone(
    job: InversionJob, storage: Storage, failed: int, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Attempts(storage).begin("u", failed)
    with stage_of(job) as stage:
        asked: list[bool] = []
        original = stage._admission.admitted

        def admitted(*, alone: bool) -> Any:
            asked.append(alone)
            return original(alone=alone)

        monkeypatch.setattr(stage._admission, "admitted", admitted)
        assert stage(unit("u")).record is not None
    assert asked == [alone]


def test_a_unit_that_ray_repeats_after_its_commit_is_not_written_again(
    job: InversionJob, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in Path(job.out).rglob("*.*")}

    with stage_of(job) as stage:
        first = stage(unit("u"))
        # What a worker leaves that dies between the commit and its own tidying.
        Attempts(storage).begin("u", 1)
        monkeypatch.setattr(Inverter, "__call__", None)
        before = times()
        again = stage(unit("u"))
    assert again.record == first.record
    assert again.record is not None
    assert Attempts(storage).failed("u") == 0
    assert times().items() <= before.items()


@pytest.mark.parametrize("failed", [0, 4])
def test_a_store_that_fails_is_not_counted_against_the_unit(
    job: InversionJob, storage: Storage, failed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise TransientError("the store is away")

    if failed:
        Attempts(storage).begin("u", failed)
    with stage_of(job) as stage:
        with monkeypatch.context() as broken:
            broken.setattr("restyle.pipeline.execution.stages.write_unit", fails)
            assert "the store is away" in stage(unit("u")).error
        assert Attempts(storage).failed("u") == failed
        assert stage(unit("u")).record is not None


def test_a_model_that_cannot_be_loaded_is_told_by_every_unit(
    job: InversionJob, tmp_path: Path
) -> None:
    from dataclasses import replace

    with stage_of(replace(job, model=str(tmp_path / "nothing"))) as stage:
        result = stage(unit("u"))
    assert result.fatal
    assert "nothing" in result.error
