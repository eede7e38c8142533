"""The time left, over schedules whose truth is known."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from restyle.jobs.display.progress import describe
from restyle.jobs.display.time_left import TimeLeft
from restyle.pipeline.listener import Progress

UNITS, SIZE = 60, 16


def times(step: Callable[[int], float], start: float) -> list[float]:
    """When each unit is done."""
    at, found = start, []
    for number in range(UNITS):
        at += step(number)
        found.append(at)
    return found


def told(finished: list[float]) -> list[tuple[float, float]]:
    """When each unit is done, and the seconds left that are told then."""
    left, found = TimeLeft(), []
    for number, at in enumerate(finished, 1):
        seconds = left.update(number * SIZE, UNITS * SIZE, at)
        if seconds is not None:
            found.append((at, seconds))
    return found


_noise = random.Random(1)
SCHEDULES = {
    "even": times(lambda _: 2.0, 0.0),
    "slow start": times(lambda _: 0.5, 40.0),
    "uneven": times(lambda _: _noise.uniform(1.0, 3.0), 10.0),
    "four at a time": times(lambda number: 0.1 if number % 4 else 7.7, 5.0),
    "slower and slower": times(lambda number: 1 + number / UNITS, 5.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_is_true(name: str) -> None:
    finished, found = SCHEDULES[name], told(SCHEDULES[name])
    assert len(found) >= 0.75 * UNITS
    whole = finished[-1] - finished[0]
    for at, seconds in found:
        truth = finished[-1] - at
        assert abs(seconds - truth) <= 0.35 * truth + 0.08 * whole
    assert found[-1] == (finished[-1], 0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_does_not_jump(name: str) -> None:
    """What is told for the end of the run, an hour on the wall, moves a little at a time."""
    finished, found = SCHEDULES[name], told(SCHEDULES[name])
    whole = finished[-1] - finished[0]
    for (before, left), (after, seconds) in itertools.pairwise(found):
        assert abs(after + seconds - before - left) <= max(0.3 * left, 0.06 * whole)


def test_the_rate_since_the_start_would_jump() -> None:
    """The definition that it replaces, which the check above refuses."""
    finished = SCHEDULES["slow start"]
    whole = finished[-1] - finished[0]
    ends = [at + at / number * (UNITS - number) for number, at in enumerate(finished, 1)]
    jumps = [abs(after - before) for before, after in itertools.pairwise(ends[2:])]
    assert max(jumps) > 5 * whole


def test_without_news_it_counts_down() -> None:
    left = TimeLeft()
    for number in (1, 2, 3):
        seconds = left.update(number, 10, 2.0 * number)
    assert seconds == pytest.approx(14)
    assert left.update(3, 10, 9.0) == pytest.approx(11)
    assert left.update(3, 10, 99.0) == 0
    assert TimeLeft().update(0, 10, 5.0) is None


def test_it_is_what_the_display_tells() -> None:
    left = TimeLeft()
    lines = [
        describe(Progress(done, 40, 0, seconds), left)
        for done, seconds in ((0, 1.0), (10, 21.0), (20, 24.0), (30, 27.0))
    ]
    assert lines == ["", "0.476 images/s", "0.833 images/s", "1.11 images/s, 0:03 left"]
