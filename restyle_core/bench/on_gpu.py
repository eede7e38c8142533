"""Measurements on a GPU with CUDA graphs, because a launch may take longer than its kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from restyle.core.bench.timing import Clock, timed

# Side of the square matrices of the product, and bytes of the copy.
_SIDE = 8192
_COPIED = 1 << 30
# Repetitions of a short call in one graph.
_TIMES = 10


def replayed(call: Callable[[], object], times: int = 1) -> Callable[[], object]:
    """Record a call as a CUDA graph on the current GPU.

    Args:
        call: launches the same work each time without synchronising.
        times: repetitions in the graph.

    Returns:
        A function that replays the graph.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Libraries initialise themselves and cuDNN searches for algorithms.
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
    """Seconds of convolutions in sequence, each in its fastest formulation.

    Args:
        layers: all formulations of each layer.
        repeats: number of measurements.
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
    """Operations per second of a large matrix product."""
    a, b = (torch.randn(_SIDE, _SIDE, device=device, dtype=dtype) for _ in range(2))
    seconds = timed(replayed(lambda: a @ b), repeats, clock).median
    return 2 * _SIDE**3 / seconds


def copy_rate(device: torch.device, repeats: int, clock: Clock) -> float:
    """Bytes read and written per second by a large copy."""
    source, copy = (torch.empty(_COPIED, dtype=torch.uint8, device=device) for _ in range(2))
    copied: Callable[[], Tensor] = lambda: copy.copy_(source)  # noqa: E731
    seconds = timed(replayed(copied), repeats, clock).median
    return 2 * _COPIED / seconds
