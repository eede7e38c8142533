"""Steps of refinement as CUDA graphs: launched in one piece instead of several hundred.

A graph is a recording of what a function asked a GPU to do. It knows memory, not tensors: inputs
are copied to where they were when it was recorded, and outputs are copied from where they were
then, so that nobody outside sees any of that. It holds for one shape; a batch of another one, such
as the last of a job or one from which images have gone (``tolerance``), is computed as without.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from restyle.core.errors import SpecError

VARIABLE = "RESTYLE_CUDA_GRAPHS"
"""``on``, which is the default, or ``off``."""

MOST = 4
"""Shapes that are recorded; each holds the memory of its activations."""

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
"""Tensors to tensors, on one device, the same work for the same shapes, and never waiting."""


class GraphWarning(UserWarning):
    """Steps are computed without graphs, although these were wished for."""


def wanted(device: torch.device) -> bool:
    """Whether steps on this device are to be recorded.

    Raises:
        SpecError: the environment says neither ``on`` nor ``off``.
    """
    said = os.environ.get(VARIABLE, "on")
    if said not in ("on", "off"):
        raise SpecError(f"{VARIABLE} is {said!r}; use on or off")
    return device.type == "cuda" and said == "on"


class Recording:
    """Something that can be done again with other inputs.

    Args:
        inputs: where they are read from.
        outputs: where they are written to.
        replay: does it.
    """

    def __init__(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], replay: Callable[[], object]
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._replay = replay

    def __call__(self, *inputs: Tensor) -> Tensors:
        """The same with these; what it gives is the caller's."""
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        self._replay()
        return tuple(value.clone() for value in self._outputs)


class CudaRecorder:
    """Records on one GPU.

    Recordings share their memory: they are replayed one after another, and nothing but outputs,
    which are kept apart, outlives a replay.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @functools.cached_property
    def _pool(self) -> torch.cuda._POOL_HANDLE:
        return torch.cuda.graph_pool_handle()

    def __call__(self, function: Function, inputs: Sequence[Tensor]) -> Recording:
        """Record a function.

        Raises:
            RuntimeError: it does what cannot be recorded, or memory is short.
        """
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            current = torch.cuda.current_stream()
            places = [value.clone() for value in inputs]
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                # Libraries prepare themselves for a stream when they first use it, which cannot be
                # recorded.
                function(*places)
            current.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may go on using the GPU meanwhile.
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
                ):
                    outputs = function(*places)
            finally:
                # Torch leaves this thread in the other stream when a recording fails.
                torch.cuda.set_stream(current)

        def replay() -> None:
            with torch.cuda.device(self._device):
                graph.replay()

        return Recording(places, outputs, replay)


class StepGraphs:
    """Records a function for a shape of inputs once that has come twice.

    Args:
        record: makes a recording.
        most: shapes that are recorded.

    Attributes:
        problem: why nothing is recorded any more; empty while all is well.
    """

    def __init__(
        self, record: Callable[[Function, Sequence[Tensor]], Recording], most: int = MOST
    ) -> None:
        self._record = record
        self._most = most
        self._seen: set[tuple[torch.Size, ...]] = set()
        self._recordings: dict[tuple[torch.Size, ...], Recording] = {}
        self.problem = ""

    def __call__(self, function: Function, *inputs: Tensor) -> Tensors:
        """What the function, always the same one, makes of these."""
        key = tuple(value.shape for value in inputs)
        if key in self._seen and key not in self._recordings:
            self._try_to_record(key, function, inputs)
        self._seen.add(key)
        return self._recordings.get(key, function)(*inputs)

    def _try_to_record(
        self, key: tuple[torch.Size, ...], function: Function, inputs: Sequence[Tensor]
    ) -> None:
        if self.problem or len(self._recordings) == self._most:
            return
        try:
            self._recordings[key] = self._record(function, inputs)
        except RuntimeError as error:
            self.problem = " ".join(str(error).split())[:200]
            warnings.warn(
                f"steps are computed without CUDA graphs: {self.problem}",
                GraphWarning,
                stacklevel=2,
            )
