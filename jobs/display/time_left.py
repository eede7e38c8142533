"""Time left of a run, steady although its parts are uneven."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# Parts that are done before a time is told: the first one holds the start of the workers.
_FEWEST = 3
# Share of the time so far within which what is done belongs to one part: workers that started
# together end together, and their rate would be that of a moment.
_TOGETHER = 0.05
# How far the time that is told moves to a new estimate, beside counting down.
_WEIGHT = 0.4


@dataclass(frozen=True)
class _Part:
    """When the first of what was done at about one time was done, and how much was done then."""

    seconds: float
    done: int


class TimeLeft:
    """Estimates the time left from the rate over the later half of a run so far.

    The first part is left out, because workers start and models are loaded in it. What was told
    counts down, and moves to each new estimate by a share of the difference.
    """

    def __init__(self) -> None:
        self._parts: deque[_Part] = deque()
        self._count = self._done = 0
        self._first = 0.0
        self._told: tuple[float, float] | None = None

    def update(self, done: int, total: int, seconds: float) -> float | None:
        """Take in the progress, and return the seconds left; None while they are unknown.

        Args:
            done: how much is done; it never falls.
            total: how much there is to do.
            seconds: since the start.
        """
        if done > self._done:
            self._done = done
            self._add(done, seconds)
            if self._count >= _FEWEST:
                self._tell(done, total, seconds)
        if self._told is None:
            return None
        at, left = self._told
        return max(0.0, left - (seconds - at))

    def _add(self, done: int, seconds: float) -> None:
        if self._parts and seconds - self._parts[-1].seconds < _TOGETHER * seconds:
            return
        self._first = self._first if self._count else seconds
        self._count += 1
        self._parts.append(_Part(seconds, done))
        middle = (self._first + seconds) / 2
        while len(self._parts) > _FEWEST and self._parts[1].seconds <= middle:
            self._parts.popleft()

    def _tell(self, done: int, total: int, seconds: float) -> None:
        since, until = self._parts[0], self._parts[-1]
        each = (until.seconds - since.seconds) / (until.done - since.done)
        estimate = (total - done) * each
        if self._told is not None and done < total:
            at, left = self._told
            expected = max(0.0, left - (seconds - at))
            estimate = expected + _WEIGHT * (estimate - expected)
        self._told = seconds, estimate
