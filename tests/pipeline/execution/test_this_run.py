"""What a run counts of itself: units run again, and those of one run beside the whole output."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from restyle.pipeline.accounting import operation
from restyle.pipeline.execution.job import Job, StageSpec, Stepped, UnitResult, failure
from restyle.pipeline.execution.local import run_here
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.run import conduct
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Interrupted, Listener
from tests.pipeline.execution.squares import SQUARES, SquareTask

Run = Callable[[Job, Sequence[UnitRef]], Iterator[UnitResult]]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "operations", lambda: {"squares": SQUARES})
    monkeypatch.setattr("restyle.pipeline.execution.rounds._BACK_OFF", (0.0, 0.0))


def run(out: Path, execute: Run, listener: Listener | None = None) -> dict[str, Any]:
    """Square 600 numbers; the record of the run."""
    with contextlib.suppress(Interrupted):
        conduct(
            lambda: SquareTask(out, 600, Workers()),
            listener or Listener(),
            lambda: contextlib.nullcontext(execute),
        )
    record: dict[str, Any] = json.loads((out / "run.json").read_bytes())
    return record


def test_units_that_are_run_again_are_counted(tmp_path: Path) -> None:
    failing = [2, 1]

    def execute(job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        doomed = failing.pop(0) if failing else 0
        yield from run_here(job, units[doomed:])
        for unit in units[:doomed]:
            yield failure(unit.name, OSError("the storage is gone"))

    record = run(tmp_path / "out", execute)
    assert record["this_run"]["retries"] == 2 + 1
    assert record["this_run"]["units"] == record["counts"]["units"] > 3
    assert record["counts"]["pending_units"] == 0


def test_one_run_beside_the_whole_output(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def half(job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        yield from run_here(job, units[:1])
        raise KeyboardInterrupt

    first = run(out, half)
    assert first["state"] == "interrupted"
    assert first["this_run"]["units"] == 1
    assert first["this_run"]["images"] == first["timings"]["images"]
    second = run(out, run_here)
    assert second["this_run"]["units"] == second["counts"]["units"] - 1
    assert second["this_run"]["images"] == second["timings"]["images"]
    whole = second["counts"]
    assert whole["images"] == 600
    for name in ("images", "faces"):
        assert first["this_run"][name] + second["this_run"][name] == whole[name]


def test_what_was_committed_before_an_interruption_counts(tmp_path: Path) -> None:
    def stopped(job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        first, *_ = list(run_here(job, units[:3]))
        yield first
        raise KeyboardInterrupt

    record = run(tmp_path / "out", stopped)
    assert record["this_run"]["units"] == 3
    done = record["counts"]["images"] - record["counts"]["pending_images"]
    assert record["this_run"]["images"] == record["timings"]["images"] == done


def test_stages_tell_who_waits_and_who_works(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []

    class Told(Listener):
        def occupied(self, stage: str, working: int, waiting: int | None) -> None:
            told.append((stage, working, waiting))

    def here(job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        return run_here(job, units, Told())

    run(tmp_path / "out", here)
    units = told[0][2]
    assert units
    assert told[0] == ("squaring", 0, units)
    assert told[-1] == ("squaring", 0, 0)
    assert len(told) == 1 + 2 * units
    for (_, before, queued), (_, after, left) in itertools.pairwise(told):
        assert queued is not None
        assert left is not None
        # A unit begins, or one ends.
        assert (after - before, left - queued) in ((1, -1), (-1, 0))


class Passing:
    """A stage that does nothing."""

    def __init__(self, job: Any, threads: int | None, stepped: Stepped | None) -> None:
        del job, threads, stepped

    def __call__(self, unit: Any) -> Any:
        return unit

    def close(self) -> None:
        pass


class Ending(Passing):
    """A last stage."""

    def __call__(self, unit: Any) -> UnitResult:
        return UnitResult(unit.name, error="not committed")


def test_units_wait_for_the_next_stage_once_they_leave_one() -> None:
    told: dict[str, list[tuple[int, int | None]]] = {}

    class Told(Listener):
        def occupied(self, stage: str, working: int, waiting: int | None) -> None:
            told.setdefault(stage, []).append((working, waiting))

    stages = (
        StageSpec("first", "align", Passing, 1),
        StageSpec("second", "compute", Ending, 1),
    )
    job: Any = SimpleNamespace(stages=stages, threads=1)
    units: Any = [SimpleNamespace(name=str(number), images=1) for number in range(5)]
    assert len(list(run_here(job, units, Told()))) == 5
    # All wait for the first one; they come to the second one by one.
    assert told["first"][0] == (0, 5)
    assert told["second"][0] == (0, 1)
    assert [len(events) for events in told.values()] == [1 + 2 * 5, 3 * 5]
    assert [events[-1] for events in told.values()] == [(0, 0), (0, 0)]
    for events in told.values():
        assert all(
            0 <= working <= 1 and waiting is not None and waiting >= 0
            for working, waiting in events
        )
