"""Wall time of something that is done several times."""

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
        seconds: one for each time.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of them took longer."""
        return statistics.median(self.seconds)

    def scaled(self, factor: float) -> Timing:
        """All times a factor."""
        return Timing(tuple(each * factor for each in self.seconds))


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> Timing:
    """Time a call, after one that does not count."""
    call()
    clock = Clock(device)
    return Timing(tuple(clock.seconds(call)[0] for _ in range(repeats)))


class Clock:
    """Times calls; on a GPU, until it is done with what they asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def seconds(self, call: Callable[[], T]) -> tuple[float, T]:
        """Seconds that a call takes, and what it returns."""
        self._wait()
        started = time.perf_counter()
        result = call()
        self._wait()
        return time.perf_counter() - started, result

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
