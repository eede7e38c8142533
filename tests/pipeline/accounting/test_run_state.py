"""What became of a run, by its record and by the claims to its output."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from restyle.pipeline.accounting.run_record import Counts, RunRecord, Timings
from restyle.pipeline.accounting.run_state import run_state
from restyle.pipeline.storage.claim import BEAT, MISSED, Claim, own_claim
from tests.pipeline.accounting.test_run_record import record


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def running(started: float, pending: int = 0, planning: float = 0.0) -> RunRecord:
    counts = Counts(
        units=9, pending_units=9, images=90, pending_images=pending, faces=0, rejected=0, rejects={}
    )
    timings = Timings(started=ago(started), seconds=planning)
    return record("20260131T235959Z-00000000", counts=counts, timings=timings)


def claim(**fields: Any) -> Claim:
    return own_claim().model_copy(update={"state": "held", "started": ago(9e4), **fields})


LIMIT = BEAT * MISSED


@pytest.mark.parametrize(
    ("claims", "state"),
    [
        (lambda: [claim()], "running"),
        (list, "died"),
        # Another process has this one's number since.
        (lambda: [claim(born="1")], "died"),
        (lambda: [claim(place="elsewhere", seen=ago(LIMIT / 2))], "running"),
        (lambda: [claim(place="elsewhere", seen=ago(LIMIT * 2))], "died"),
        # Its clock is ahead.
        (lambda: [claim(place="elsewhere", seen=ago(-3600))], "running"),
        # An earlier version tells no time: it cannot be known for dead.
        (lambda: [claim(place="elsewhere", seen="")], "running"),
        # The output is used by another command since.
        (lambda: [claim(started=ago(1))], "died"),
        (lambda: [claim(born="1"), claim()], "running"),
    ],
)
def test_alive_or_dead(claims: Callable[[], list[Claim]], state: str) -> None:
    # Made now: a case that waits for its turn grows old.
    found = run_state(running(3600), claims())
    assert found.state == state
    assert (found.driver != "") == (state == "running")


def test_the_last_sign_of_life_is_that_of_its_own_claim() -> None:
    seen = ago(7200)
    others = [claim(born="1", seen=seen), claim(started=ago(1), born="1", seen=ago(2))]
    assert run_state(running(9000), others).last_sign_of_life == seen


def test_rate_and_time_left() -> None:
    # 30 of 90 in the 600 s after 100 s of planning.
    found = run_state(running(700, pending=90, planning=100), [claim()], 60)
    assert found.images_per_second == pytest.approx(30 / 600, rel=0.01)
    assert found.seconds_left == pytest.approx(60 / (30 / 600), rel=0.01)
    for pending in (90, 95, None):
        nothing = run_state(running(700, pending=90), [claim()], pending)
        assert (nothing.images_per_second, nothing.seconds_left) == (None, None)


@pytest.mark.parametrize("state", ["complete", "interrupted", "failed"])
def test_a_run_that_ended_is_what_it_says(state: Any) -> None:
    ended = running(60).model_copy(update={"state": state, "error": "why"})
    found = run_state(ended, [claim()], 3)
    assert (found.state, found.error, found.seconds_left) == (state, "why", None)
