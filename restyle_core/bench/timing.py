"""Repeated timing of calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """Repeated measurements.

    Attributes:
        seconds: of each measurement.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the measurements."""
        return statistics.median(self.seconds)

    def scaled(self, factor: float) -> Timing:
        """The measurements multiplied by a factor."""
        return Timing(tuple(each * factor for each in self.seconds))


def timed(call: Callable[[], object], repeats: int, clock: Clock) -> Timing:
    """Time a call after one warm-up call."""
    call()
    return Timing(tuple(clock.seconds(call)[0] for _ in range(repeats)))


class Clock:
    """Times calls, including the work that they launch on a GPU.

    Args:
        device: of the computation.
        cpu: measure CPU time of this process instead of wall time. On a shared machine this is
            more stable, but only for a single thread: threads that wait for each other are busy.
    """

    def __init__(self, device: torch.device, *, cpu: bool = False) -> None:
        self._device = device
        self._now = time.process_time if cpu else time.perf_counter

    def seconds(self, call: Callable[[], T]) -> tuple[float, T]:
        """Seconds of a call, and its result."""
        self._wait()
        started = self._now()
        result = call()
        self._wait()
        return self._now() - started, result

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
