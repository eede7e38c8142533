"""Steps of refinement as CUDA graphs: launched in one piece instead of several hundred.

A graph is a recording of what a function asked a GPU to do. It knows memory, not tensors: inputs
are copied to where they were when it was recorded, and outputs are copied from where they were
then, so that nobody outside sees any of that. It holds for one shape. A smaller batch, such as the
last of a job or one from which images have gone (``tolerance``), is filled up to the size of a
recording, at most twofold as a rule: a shape of its own would cost a search for algorithms and a
recording.
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
"""Sizes that are recorded: that of the largest batch, a half, a quarter and an eighth of it."""

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
"""Tensors to tensors, on one device, the same work for the same shapes, and never waiting."""


Key = tuple[tuple[int, ...], ...]
"""Shapes of the inputs."""


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
    """Records a function for a size of batch once that has come twice.

    Args:
        record: makes a recording.
        most: sizes that are recorded.

    Attributes:
        problem: why nothing is recorded any more; empty while all is well.
    """

    def __init__(
        self, record: Callable[[Function, Sequence[Tensor]], Recording], most: int = MOST
    ) -> None:
        self._record = record
        self._most = most
        self._largest = 0
        self._seen: set[Key] = set()
        # The one that was used last is at the end.
        self._recordings: dict[Key, Recording] = {}
        self.problem = ""

    def __call__(self, function: Function, *inputs: Tensor) -> Tensors:
        """What the function, always the same one, makes of these, row by row of a batch."""
        if self.problem:
            return function(*inputs)
        count = len(inputs[0])
        size = self._size(count, inputs)
        inputs = tuple(_filled(value, size) for value in inputs)
        key = _key(size, inputs)
        if key in self._seen and key not in self._recordings:
            self._try_to_record(key, function, inputs)
        self._seen.add(key)
        recording = self._recordings.pop(key, None)
        if recording is None:
            made = function(*inputs)
        else:
            self._recordings[key] = recording
            made = recording(*inputs)
        return made if size == count else tuple(value[:count] for value in made)

    def _size(self, count: int, inputs: Sequence[Tensor]) -> int:
        """Of the batch that so many images are computed in."""
        self._largest = max(self._largest, count)
        size = self._largest
        for halvings in range(1, self._most):
            half = -(-self._largest >> halvings)
            if half < count:
                break
            size = half
        # One of an earlier, smaller largest may fit more closely.
        recorded = [n for n in range(count, size) if _key(n, inputs) in self._recordings]
        return recorded[0] if recorded else size

    def _try_to_record(self, key: Key, function: Function, inputs: Sequence[Tensor]) -> None:
        if len(self._recordings) == self._most:
            del self._recordings[next(iter(self._recordings))]
        try:
            self._recordings[key] = self._record(function, inputs)
        except RuntimeError as error:
            self.problem = " ".join(str(error).split())[:200]
            warnings.warn(
                f"steps are computed without CUDA graphs: {self.problem}",
                GraphWarning,
                stacklevel=2,
            )


def _key(size: int, inputs: Sequence[Tensor]) -> Key:
    return tuple((size, *value.shape[1:]) for value in inputs)


def _filled(value: Tensor, size: int) -> Tensor:
    """With the last row again until there are so many."""
    missing = size - len(value)
    return (
        value if not missing else torch.cat([value, value[-1:].expand(missing, *value.shape[1:])])
    )
