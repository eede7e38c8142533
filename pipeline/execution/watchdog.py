"""Heartbeats of workers and a watchdog that ends a run whose workers make no progress.

Every worker sends a heartbeat every few seconds: a counter, the number of its running calls, and
the number of its completed steps. The driver's watchdog reads them whenever no unit was committed
for a while. It compares successive values by its own monotonic clock, so that the clocks of
machines may differ.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from restyle.core.errors import FatalError, SpecError

BEAT = 5.0
"""Seconds between two heartbeats."""

VARIABLE = "RESTYLE_PATIENCE"
"""Environment variable that replaces :attr:`Patience.unplaced`, in seconds."""

# Number of workers of a stage that die during their start, above those that are starting, at which
# the run ends.
_MAX_FAILED_STARTS = 5

# Seconds without a heartbeat after which a worker counts as dead.
_LIVES = 6 * BEAT


@dataclass(frozen=True)
class Patience:
    """Longest times without progress, in seconds.

    Attributes:
        unplaced: while no node has room for a stage, or none of its workers has started.
        idle: while workers of all stages live and none is busy.
        busy: while a worker is busy.
    """

    unplaced: float = 900.0
    idle: float = 60.0
    busy: float = 1800.0

    @staticmethod
    def chosen() -> Patience:
        """Return the default with the value of :data:`VARIABLE`, if it is set.

        Raises:
            SpecError: the value is not a positive number.
        """
        given = os.environ.get(VARIABLE)
        try:
            seconds = float(given) if given else Patience.unplaced
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise SpecError(f"{VARIABLE}={given} is no number of seconds")
        return Patience(unplaced=seconds)


class Stalled(Exception):  # noqa: N818 (it says what happened)
    """The workers make no progress; a restart may help."""


class Heartbeat:
    """Thread that reports the state of its worker until the process ends.

    Args:
        tell: called with ``beats busy ended`` every :data:`BEAT` seconds.
    """

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._beats = 0
        self._busy = 0
        self._ended = 0
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Context of a call or of the worker's start, during which the worker is busy."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
            self.stepped()

    def stepped(self) -> None:
        """Count one completed step."""
        with self._lock:
            self._ended += 1

    def _run(self) -> None:
        while True:
            with self._lock:
                self._beats += 1
                state = f"{self._beats} {self._busy} {self._ended}"
            # The watchdog notices missing heartbeats.
            with contextlib.suppress(Exception):
                self._tell(state.encode())
            time.sleep(BEAT)


class Watchdog:
    """Detects that a run makes no progress.

    Args:
        stages: names of the stages, each of which needs a worker.
        heartbeats: returns the last heartbeat of each worker by ``stage:worker``.
        unplaced: returns the stage that no node has room for, as a sentence; empty for none.
        last_words: returns the last message of the worker that died last; empty when unknown.
        gone: returns whether a worker's process is known to have ended.
        patience: time limits.
        clock: monotonic clock in seconds.
    """

    def __init__(
        self,
        stages: tuple[str, ...],
        heartbeats: Callable[[], Mapping[str, bytes]],
        unplaced: Callable[[], str],
        last_words: Callable[[], str] = str,
        gone: Callable[[str], bool] = lambda _: False,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = stages
        self._heartbeats = heartbeats
        self._unplaced = unplaced
        self._last_words = last_words
        self._gone = gone
        self._patience = patience or Patience.chosen()
        self._clock = clock
        self._told: dict[str, tuple[tuple[int, int, int], float]] = {}
        self.progressed()

    def progressed(self) -> None:
        """Note that the workers have made progress."""
        self._moved = self._busy = self._staffed = self._placed = self._clock()

    def working(self) -> dict[str, int]:
        """Return how many units each stage had in work when the heartbeats were read last."""
        now = self._clock()
        return {
            stage: sum(
                state[1]
                for worker, (state, since) in self._told.items()
                if worker.startswith(f"{stage}:") and self._lives(worker, since, now)
            )
            for stage in self._stages
        }

    def look(self) -> None:
        """Check the heartbeats.

        Raises:
            FatalError: a stage fits on no node for too long, or its workers die during their start.
            Stalled: the workers make no progress for too long.
        """
        now = self._clock()
        alive = self._alive(now)
        if any(busy for _, (_, busy, _) in alive):
            self._busy = now
        if all(
            any(worker.startswith(f"{stage}:") for worker, _ in alive) for stage in self._stages
        ):
            self._staffed = now
        self._check_starts(now)
        unplaced = self._unplaced()
        if not unplaced:
            self._placed = now
        patience = self._patience
        if now - max(self._placed, self._moved) > patience.unplaced:
            raise FatalError(
                f"{unplaced}, for {_minutes(patience.unplaced)} now; what is done is kept, run "
                "the same command again when there is one"
            )
        if now - max(self._staffed, self._moved) > patience.unplaced:
            raise Stalled(f"a stage has had no worker for {_minutes(patience.unplaced)}")
        if self._staffed == now and now - max(self._busy, self._moved) > patience.idle:
            raise Stalled(f"no worker has had anything to do for {patience.idle:g} s")
        if now - self._moved > patience.busy:
            raise Stalled(f"nothing has come of any work for {_minutes(patience.busy)}")

    def _check_starts(self, now: float) -> None:
        """Raise FatalError if the workers of a stage die one after another during their start."""
        for stage in self._stages:
            found = {
                worker: told
                for worker, told in self._told.items()
                if worker.startswith(f"{stage}:")
            }
            if any(ended for (_, _, ended), _ in found.values()):
                continue
            dead = sum(not self._lives(worker, since, now) for worker, (_, since) in found.items())
            if dead >= _MAX_FAILED_STARTS + len(found) - dead:
                words = self._last_words()
                raise FatalError(
                    f"{dead} workers of the stage {stage!r} died while they started, and none has "
                    f"come up{f' ({words})' if words else ''}; what is done is kept, run the same "
                    "command again when the reason is gone"
                )

    def _alive(self, now: float) -> list[tuple[str, tuple[int, int, int]]]:
        """Return the living workers with their states."""
        for worker, data in self._heartbeats().items():
            state = _state(data)
            before, _ = self._told.get(worker, (None, now))
            if before is not None and state[2] > before[2]:
                self._moved = now
            if state != before:
                self._told[worker] = (state, now)
        return [
            (worker, state)
            for worker, (state, since) in self._told.items()
            if self._lives(worker, since, now)
        ]

    def _lives(self, worker: str, since: float, now: float) -> bool:
        return now - since < _LIVES and not self._gone(worker)


def _state(data: bytes) -> tuple[int, int, int]:
    beats, busy, ended = map(int, data.split())
    return beats, busy, ended


def _minutes(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} minutes"
