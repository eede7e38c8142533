"""Choice of the fastest of several implementations on a GPU, by input shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Way = Callable[[Tensor], Tensor]

_REPEATS = 3


def gpu_seconds(call: Callable[[], object]) -> float:
    """Mean seconds of a call on the current GPU, after one warm-up call."""
    call()
    started, ended = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    started.record()
    for _ in range(_REPEATS):
        call()
    ended.record()
    ended.synchronize()
    milliseconds: float = started.elapsed_time(ended)
    return milliseconds / 1000 / _REPEATS


class Fastest:
    """Times all implementations for each new shape and uses the fastest.

    Args:
        ways: equivalent implementations; the first one is used when nothing can be measured: on a
            CPU, or while a CUDA graph is recorded.
        seconds: measures a call.
    """

    def __init__(
        self, ways: Sequence[Way], seconds: Callable[[Callable[[], object]], float] = gpu_seconds
    ) -> None:
        self._ways = ways
        self._seconds = seconds
        self._chosen: dict[torch.Size, Way] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Call the fastest implementation."""
        way = self._chosen.get(x.shape)
        if way is None:
            way = self._ways[0]
            if len(self._ways) > 1 and _measurable(x):
                way = self._chosen[x.shape] = min(self._ways, key=lambda way: self._time(way, x))
        return way(x)

    def _time(self, way: Way, x: Tensor) -> float:
        try:
            return self._seconds(lambda: way(x))
        except torch.OutOfMemoryError:
            return float("inf")


def _measurable(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_available() and not torch.cuda.is_current_stream_capturing()
