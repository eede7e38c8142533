"""Whether a run works, has died or has ended, with its rate and the time that it will take yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from restyle.pipeline.accounting.run_record import RunRecord
from restyle.pipeline.storage.claim import Claim

_RUNNING = "running"


@dataclass(frozen=True)
class RunState:
    """What became of a run.

    Attributes:
        state: ``running``, ``died``, ``complete``, ``interrupted`` or ``failed``.
        started: start time, ISO 8601 in UTC.
        finished: end time in the same format; None for a run that works or died.
        last_sign_of_life: time of the last heartbeat of a run that works or died; None if it left
            none, because a later run has cleared it away.
        driver: machine and process of a run that works; empty otherwise.
        images_per_second: rate; None before the first unit is done.
        seconds_left: until the run ends at this rate; None if it does not work or has no rate.
        error: message of a failed run; None otherwise.
    """

    state: Literal["running", "died", "complete", "interrupted", "failed"]
    started: str
    finished: str | None = None
    last_sign_of_life: str | None = None
    driver: str = ""
    images_per_second: float | None = None
    seconds_left: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        if self.state == "died":
            sign = f", last sign of life {self.last_sign_of_life}" if self.last_sign_of_life else ""
            return f"died{sign}; started {self.started}"
        if self.state == "running":
            return f"running since {self.started} ({self.driver})"
        return f"{self.state}, {self.started} to {self.finished or 'not recorded'}"


def run_state(record: RunRecord, claims: Sequence[Claim], pending: int | None = None) -> RunState:
    """Judge a run by its record and by the claims to its output.

    Args:
        record: of the newest run, or of an earlier one with no claims.
        claims: to the output, see :func:`restyle.pipeline.storage.claim.read_claims`.
        pending: inputs of the output that are not done now; None if unknown.
    """
    timings = record.timings
    if record.state != _RUNNING:
        rate = timings.images_per_second
        return RunState(
            record.state, timings.started, timings.finished, None, "", rate, None, record.error
        )
    # A run claims the output before it starts its record; a later claim is another one's.
    its = [claim for claim in claims if claim.started <= timings.started]
    driver = max(its, key=lambda claim: (claim.lives, claim.seen), default=None)
    if driver is None or not driver.lives:
        seen = driver.seen if driver is not None else ""
        return RunState("died", timings.started, last_sign_of_life=seen or None)
    rate = _rate(record, pending)
    return RunState(
        "running",
        timings.started,
        last_sign_of_life=driver.seen or None,
        driver=f"process {driver.pid} on {driver.host}",
        images_per_second=rate,
        seconds_left=pending / rate if rate and pending is not None else None,
    )


def _rate(record: RunRecord, pending: int | None) -> float | None:
    """Inputs per second of a run that works, since it wrote its record after planning."""
    if pending is None:
        return None
    # Retries of rejects plan inputs again, and others may plan more: never a negative rate.
    done = max(0, record.counts.pending_images - pending)
    started = datetime.fromisoformat(record.timings.started)
    seconds = (datetime.now(UTC) - started).total_seconds() - record.timings.seconds
    return done / seconds if done and seconds > 0 else None
