"""How long something takes that is done several times."""

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


def timed(call: Callable[[], object], repeats: int, clock: Clock) -> Timing:
    """Time a call, after one that does not count."""
    call()
    return Timing(tuple(clock.seconds(call)[0] for _ in range(repeats)))


class Clock:
    """Times calls; on a GPU, until it is done with what they asked for.

    Args:
        device: where they compute.
        cpu: count this process's time on the processor instead of the time that passes. On a
            machine that others use as well that is what a call costs, as long as it is one
            thread's: several wait for each other busily, which counts.
    """

    def __init__(self, device: torch.device, *, cpu: bool = False) -> None:
        self._device = device
        self._now = time.process_time if cpu else time.perf_counter

    def seconds(self, call: Callable[[], T]) -> tuple[float, T]:
        """Seconds that a call takes, and what it returns."""
        self._wait()
        started = self._now()
        result = call()
        self._wait()
        return self._now() - started, result

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
