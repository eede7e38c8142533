"""Measuring on a GPU, where everything is replayed from a recording, as a model's steps are: a
launch may take longer than what it launches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from restyle.core.bench.timing import Clock, timed

# Side of the square matrices whose product keeps a GPU busy, and bytes of the copy.
_SIDE = 8192
_COPIED = 1 << 30
# A short call is measured as often as this in one replay.
_TIMES = 10


def replayed(call: Callable[[], object], times: int = 1) -> Callable[[], object]:
    """Record a call for the current GPU.

    Args:
        call: asks the GPU for the same work each time and waits for nothing.
        times: how often it is in the recording.

    Returns:
        Does it again.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Libraries prepare themselves, and cuDNN searches.
        call()
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(times):
            call()
    return graph.replay


def bare_seconds(
    layers: Sequence[Sequence[Callable[[], object]]], repeats: int, clock: Clock
) -> float:
    """Seconds that convolutions take one after another, with nothing between them.

    Args:
        layers: of each, all formulations.
        repeats: measurements.
        clock: of the GPU.
    """
    fastest = [
        min(ways, key=lambda way: timed(replayed(way, _TIMES), repeats, clock).median)
        if len(ways) > 1
        else ways[0]
        for ways in layers
    ]

    def all_of_them() -> None:
        for way in fastest:
            way()

    return timed(replayed(all_of_them), repeats, clock).median


def product_rate(device: torch.device, dtype: torch.dtype, repeats: int, clock: Clock) -> float:
    """Operations a second of a large matrix product."""
    a, b = (torch.randn(_SIDE, _SIDE, device=device, dtype=dtype) for _ in range(2))
    seconds = timed(replayed(lambda: a @ b), repeats, clock).median
    return 2 * _SIDE**3 / seconds


def copy_rate(device: torch.device, repeats: int, clock: Clock) -> float:
    """Bytes a second, read and written, of a large copy."""
    source, copy = (torch.empty(_COPIED, dtype=torch.uint8, device=device) for _ in range(2))
    copied: Callable[[], Tensor] = lambda: copy.copy_(source)  # noqa: E731
    seconds = timed(replayed(copied), repeats, clock).median
    return 2 * _COPIED / seconds
