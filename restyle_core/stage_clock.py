"""Where the time of a computation goes: seconds of its stages, measured where they are.

Functions say which stage they are with :func:`stage`; a :class:`StageClock` that runs in their
thread adds up their seconds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

ALIGNMENT = ("read", "decode", "detect", "landmarks", "crop")
"""Stages of alignment, in the order in which a photograph passes them."""


class StageClock:
    """Seconds of each stage; may run in several threads.

    Args:
        now: a clock in seconds; wall time by default.

    Attributes:
        seconds: of each stage, summed over the threads.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.seconds: dict[str, float] = {}
        self._adding = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[StageClock]:
        """Take what :func:`stage` measures in this thread."""
        token = _RUNNING.set(_Running(self))
        try:
            yield self
        finally:
            _RUNNING.reset(token)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what another clock measured."""
        with self._adding:
            for name, amount in seconds.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + amount


@dataclass
class _Running:
    """A clock in one thread, and the seconds of stages that ended inside the present one."""

    clock: StageClock
    inner: float = 0.0


_RUNNING: ContextVar[_Running | None] = ContextVar("stage_clock", default=None)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Measure a stage on the clock that runs in this thread, if one does; also a decorator.

    The time of a stage inside another counts for the inner one alone.

    Args:
        name: of the stage.
    """
    running = _RUNNING.get()
    if running is None:
        yield
        return
    outer, running.inner = running.inner, 0.0
    started = running.clock.now()
    try:
        yield
    finally:
        elapsed = running.clock.now() - started
        running.clock.add({name: elapsed - running.inner})
        running.inner = outer + elapsed


def account(seconds: Mapping[str, float]) -> None:
    """Add what another process measured to the clock that runs in this thread, if one does."""
    running = _RUNNING.get()
    if running is not None:
        running.clock.add(seconds)
