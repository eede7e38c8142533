"""Hearts and a watchdog: a run whose workers do nothing any more ends instead of hanging.

Every worker has a heart, which tells every few seconds that it lives, how many calls it is in, and
how many it has ended. The driver's watchdog looks at them whenever no unit was committed for a
while. It only compares what it sees with what it saw, by its own monotonic clock, so that clocks
may differ and jump.
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
"""Seconds between two beats of a heart."""

VARIABLE = "RESTYLE_PATIENCE"
"""Replaces :attr:`Patience.homeless`, in seconds."""

# Workers that die while they start, more than are at it, before a run gives up: it would never end.
_STILLBORN = 5

# A worker that beats no more for so long is dead, or its machine is.
_LIVES = 6 * BEAT


@dataclass(frozen=True)
class Patience:
    """Seconds without progress that are borne.

    Attributes:
        homeless: while no node has room for a stage, or none of its workers has come up.
        idle: while workers of all stages live and none has anything to do.
        busy: while a worker is at something.
    """

    homeless: float = 900.0
    idle: float = 60.0
    busy: float = 1800.0

    @staticmethod
    def chosen() -> Patience:
        """The default, or what the environment says.

        Raises:
            SpecError: it makes no sense.
        """
        given = os.environ.get(VARIABLE)
        try:
            seconds = float(given) if given else Patience.homeless
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise SpecError(f"{VARIABLE}={given} is no number of seconds")
        return Patience(homeless=seconds)


class Stalled(Exception):  # noqa: N818 (it says what happened)
    """Workers do nothing, or nothing comes of what they do; a new start may help."""


class Heart:
    """Tells about its worker for as long as the process lives.

    Args:
        tell: is given ``beats busy ended`` every :data:`BEAT` seconds.
    """

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._beats = 0
        self._busy = 0
        self._ended = 0
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """A call, or the worker's own start."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
            self.stepped()

    def stepped(self) -> None:
        """A part of the work is done."""
        with self._lock:
            self._ended += 1

    def _run(self) -> None:
        while True:
            with self._lock:
                self._beats += 1
                state = f"{self._beats} {self._busy} {self._ended}"
            # Whoever cannot be told will notice, and judge.
            with contextlib.suppress(Exception):
                self._tell(state.encode())
            time.sleep(BEAT)


class Watchdog:
    """Judges from afar whether a run still gets on.

    Args:
        stages: names of the stages, each of which needs a worker.
        hearts: what each heart told last; keys are ``stage:worker``.
        homeless: which stage no node has room for, as a sentence; empty when there is none.
        last_words: of the worker that died last, where they are known.
        patience: how long what is borne.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        stages: tuple[str, ...],
        hearts: Callable[[], Mapping[str, bytes]],
        homeless: Callable[[], str],
        last_words: Callable[[], str] = str,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = stages
        self._hearts = hearts
        self._homeless = homeless
        self._last_words = last_words
        self._patience = patience or Patience.chosen()
        self._clock = clock
        self._told: dict[str, tuple[tuple[int, int, int], float]] = {}
        self.progressed()

    def progressed(self) -> None:
        """Something has come of the workers' work."""
        self._moved = self._busy = self._manned = self._housed = self._clock()

    def look(self) -> None:
        """Return if all is well, or may still become so.

        Raises:
            FatalError: there is no place for a stage, and has not been for too long; or its workers
                die while they start.
            Stalled: something hangs.
        """
        now = self._clock()
        alive = self._alive(now)
        if any(busy for _, (_, busy, _) in alive):
            self._busy = now
        if all(
            any(worker.startswith(f"{stage}:") for worker, _ in alive) for stage in self._stages
        ):
            self._manned = now
        self._check_starts(now)
        homeless = self._homeless()
        if not homeless:
            self._housed = now
        patience = self._patience
        if now - max(self._housed, self._moved) > patience.homeless:
            raise FatalError(
                f"{homeless}, for {_minutes(patience.homeless)} now; what is done is kept, run "
                "the same command again when there is one"
            )
        if now - max(self._manned, self._moved) > patience.homeless:
            raise Stalled(f"a stage has had no worker for {_minutes(patience.homeless)}")
        if self._manned == now and now - max(self._busy, self._moved) > patience.idle:
            raise Stalled(f"no worker has had anything to do for {patience.idle:g} s")
        if now - self._moved > patience.busy:
            raise Stalled(f"nothing has come of any work for {_minutes(patience.busy)}")

    def _check_starts(self, now: float) -> None:
        """Notice that the workers of a stage die one after another before they have started."""
        for stage in self._stages:
            found = [told for worker, told in self._told.items() if worker.startswith(f"{stage}:")]
            if any(ended for (_, _, ended), _ in found):
                continue
            dead = sum(now - since >= _LIVES for _, since in found)
            if dead >= _STILLBORN + len(found) - dead:
                words = self._last_words()
                raise FatalError(
                    f"{dead} workers of the stage {stage!r} died while they started, and none has "
                    f"come up{f' ({words})' if words else ''}; what is done is kept, run the same "
                    "command again when the reason is gone"
                )

    def _alive(self, now: float) -> list[tuple[str, tuple[int, int, int]]]:
        """Workers whose hearts beat, and what they told."""
        for worker, data in self._hearts().items():
            state = _state(data)
            before, _ = self._told.get(worker, (None, now))
            if before is not None and state[2] > before[2]:
                self._moved = now
            if state != before:
                self._told[worker] = (state, now)
        return [
            (worker, state) for worker, (state, since) in self._told.items() if now - since < _LIVES
        ]


def _state(data: bytes) -> tuple[int, int, int]:
    beats, busy, ended = map(int, data.split())
    return beats, busy, ended


def _minutes(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} minutes"
