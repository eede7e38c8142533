"""Estimates beside the runs that follow: counts and bytes, not times."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from restyle.core.errors import SpecError
from restyle.pipeline.estimation.estimate import Wanted, estimate, estimate_planned
from restyle.pipeline.estimation.job_estimate import Estimate
from restyle.pipeline.estimation.measurement import Effort
from restyle.pipeline.estimation.prices import Machine, Prices
from restyle.pipeline.execution.job import Job, UnitResult
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.execution.rounds import Execute
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Interrupted, Listener
from restyle.pipeline.storage.filesystem import open_storage
from tests.pipeline.in_process import in_process

SETTINGS = InversionSettings(model="faces64", steps=2, metrics=("l2",), dtype="fp32", align=False)
REPEATS = 12


class Heard(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, line: str) -> None:
        self.notes.append(line)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Request:
    """Photographs taken whole: seven of eight are good, the eighth is no image."""
    source = tmp_path_factory.mktemp("estimated") / "in"
    source.mkdir()
    names = ("smile.jpg", "blue hat.jpg", "terrace.jpg", "garden.jpg", "evening.jpg", "table.jpg")
    for index in range(REPEATS):
        for name in (*names, "call.webp"):
            with Image.open(photos / name) as image:
                # No two are alike, as in a collection; equal pictures in a file cost little.
                other = ImageEnhance.Brightness(image.convert("RGB")).enhance(0.6 + 0.06 * index)
                other.save(source / f"{index:02d}-{Path(name).stem}.jpg")
        shutil.copy(photos / "unusable" / "text.jpg", source / f"{index:02d}-text.jpg")
    return Request(str(source), str(source.parent / "out"), SETTINGS, device="cpu")


@pytest.fixture(scope="module")
def written(job: Request) -> dict[str, int]:
    """Bytes of the run's files by folder."""
    outcome = invert_images(job, Listener(), in_process)
    assert outcome.summary.rejects == {"not_an_image": REPEATS}
    assert outcome.summary.faces == 7 * REPEATS
    found: dict[str, int] = {}
    for name, size in open_storage(job.out).tree().items():
        folder = name.partition("/")[0]
        found[folder] = found.get(folder, 0) + size
    return found


def told(job: Request, sample: int, **others: object) -> Estimate:
    wanted = Wanted(Effort(sample=sample), **others)  # type: ignore[arg-type]
    return estimate(job, wanted, Heard(), in_process)


def within(found: float, expected: float, share: float) -> None:
    assert abs(found / expected - 1) < share, (found, expected)


def test_a_sample_tells_the_counts_and_bytes_of_the_run(
    job: Request, written: dict[str, int]
) -> None:
    found = told(replace(job, out=f"{job.out}-other"), 32)
    assert (found.inputs.value, found.sampled) == (8 * REPEATS, 32)
    for dataset in ("latents", "steps", "reconstructions"):
        within(found.written[dataset].value, written[dataset], 0.2)
    # Here every unit has one of the rejects, which chance would spread less evenly.
    assert 0.5 < found.written["rejects"].value / written["rejects"] < 1.0
    within(found.total_bytes, sum(written.values()), 0.1)
    rejects = found.rejects["not_an_image"]
    assert rejects.low <= REPEATS <= rejects.high
    assert found.faces.low <= 7 * REPEATS <= found.faces.high
    assert found.here.seconds.low < found.here.seconds.value < found.here.seconds.high
    # Nothing is written where the job will write.
    assert not Path(f"{job.out}-other").exists()


def test_all_inputs_tell_the_counts_of_the_run(job: Request, written: dict[str, int]) -> None:
    found = told(job, 1000)
    assert found.sampled == 8 * REPEATS
    rejects, faces = found.rejects["not_an_image"], found.faces
    assert (rejects.low, rejects.value, rejects.high) == (REPEATS, REPEATS, REPEATS)
    assert (faces.low, faces.value, faces.high) == (7 * REPEATS,) * 3
    assert found.unseen == 0.0
    within(found.total_bytes, sum(written.values()), 0.05)


def test_a_planned_output_is_told_of_its_pending_inputs(job: Request, tmp_path: Path) -> None:
    first = replace(job, out=str(tmp_path / "out"), limit=16)
    invert_images(first, Listener(), in_process)
    whole = replace(first, limit=None)
    found = estimate_planned(whole, Wanted(Effort(sample=8)), Heard(), in_process)
    assert found.inputs.value == 8 * REPEATS - 16
    invert_images(whole, Listener(), in_process)
    with pytest.raises(SpecError, match="no pending input"):
        estimate_planned(whole, Wanted(Effort(sample=8)), Heard(), in_process)


def test_what_cannot_be_known_is_said(job: Request) -> None:
    few = told(replace(job, limit=2), 100)
    assert math.isnan(few.here.seconds.low)
    said = "\n".join(few.unknown)
    assert "2 inputs are too few, all were measured" in said
    assert "there are no prices" in said
    assert "there is no GPU to measure on" in said
    small = told(job, 4)
    assert "the sample is too small" in "\n".join(small.unknown)
    least = told(job, 1)
    assert "a sample of 1 input is too small" in "\n".join(least.unknown)


def test_endless_seconds_measure_what_there_is(job: Request) -> None:
    found = estimate(replace(job, limit=20), Wanted(Effort(seconds=math.inf)), Heard(), in_process)
    assert found.sampled == 20


def test_a_gpu_that_is_not_there_is_said(job: Request) -> None:
    machines = Prices(machines={"gpu": Machine(price_per_hour=1.0, cores=4, gpus=1)})
    found = told(replace(job, device="cuda:7"), 16, prices=machines)
    assert "there is no cuda:7 to measure on" in "\n".join(found.unknown)
    assert (found.rates.invert, found.workers, found.machines) == (None, [], [])
    assert found.written["latents"].value > 0


def test_money_follows_from_prices(job: Request) -> None:
    machines = Prices(machines={"plain": Machine(price_per_hour=36.0, cores=4)})
    found = told(job, 16, prices=machines, counts=(1,))
    (plain,) = found.machines
    assert plain.money is not None
    assert plain.money.value == pytest.approx(plain.seconds.value / 100)
    assert not any("prices" in line for line in found.unknown)


def test_a_cluster_needs_a_place_for_the_sample(job: Request) -> None:
    there = replace(job, workers=Workers(address="127.0.0.1:1"), device="cpu")
    with pytest.raises(SpecError, match="--address needs --scratch"):
        told(there, 8)


def test_nothing_is_left_behind(job: Request, tmp_path: Path) -> None:
    effort = Effort(sample=8, scratch=str(tmp_path))
    estimate(job, Wanted(effort), Heard(), in_process)
    assert list(tmp_path.iterdir()) == []
    nowhere = Wanted(Effort(sample=8, scratch=str(tmp_path / "none")))
    with pytest.raises(SpecError, match=r"--scratch .*none: No such file"):
        estimate(job, nowhere, Heard(), in_process)


def test_ctrl_c_leaves_nothing_behind(job: Request, tmp_path: Path) -> None:
    @contextlib.contextmanager
    def interrupted() -> Iterator[Execute]:
        def run(_job: Job, _units: Sequence[UnitRef]) -> Iterator[UnitResult]:
            raise KeyboardInterrupt

        yield run

    wanted = Wanted(Effort(sample=8, scratch=str(tmp_path)))
    with pytest.raises(Interrupted, match="interrupted; nothing was estimated"):
        estimate(job, wanted, Heard(), interrupted)
    assert list(tmp_path.iterdir()) == []
