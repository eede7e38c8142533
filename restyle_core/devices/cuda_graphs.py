"""Refinement steps as CUDA graphs: one launch instead of several hundred.

A graph repeats the recorded kernels on fixed memory: inputs are copied to the recorded input
tensors, outputs are copied from the recorded output tensors. A graph is valid for one shape. A
smaller batch, such as the last one of a job or one whose images have stopped early (``tolerance``),
is padded to a recorded size, usually less than twice its own, because a new shape costs a search
for algorithms and a recording.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from restyle.core.errors import SpecError, reason_of

VARIABLE = "RESTYLE_CUDA_GRAPHS"
"""Environment variable: ``on`` (default) or ``off``."""

MOST = 4
"""Number of recorded batch sizes: the largest one, a half, a quarter and an eighth of it."""

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
"""Maps tensors to tensors on one device; equal shapes mean equal work; never synchronises."""


Key = tuple[tuple[int, ...], ...]
"""Shapes of the inputs of a recording."""


class GraphWarning(UserWarning):
    """Steps run without CUDA graphs, although graphs are switched on."""


def wanted(device: torch.device) -> bool:
    """Whether steps on this device use CUDA graphs.

    Raises:
        SpecError: the environment variable is neither ``on`` nor ``off``.
    """
    value = os.environ.get(VARIABLE, "on")
    if value not in ("on", "off"):
        raise SpecError(f"{VARIABLE} is {value!r}; use on or off")
    return device.type == "cuda" and value == "on"


class Recording:
    """A recorded function that can be replayed with other inputs.

    Args:
        inputs: tensors that the recording reads.
        outputs: tensors that the recording writes.
        replay: runs the recording.
    """

    def __init__(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], replay: Callable[[], object]
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._replay = replay

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Replay with these inputs and return copies of the outputs."""
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        self._replay()
        return tuple(value.clone() for value in self._outputs)


class CudaRecorder:
    """Records functions on one GPU.

    Recordings share one memory pool, because they are replayed one after another and only the
    copied outputs outlive a replay.

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
            RuntimeError: the function cannot be recorded, or memory is short.
        """
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            current = torch.cuda.current_stream()
            places = [value.clone() for value in inputs]
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                # Libraries initialise themselves on a stream's first use, which cannot be recorded.
                function(*places)
            current.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            try:
                # thread_local, because other threads may use the GPU meanwhile.
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
                ):
                    outputs = function(*places)
            finally:
                # When a recording fails, torch does not restore the current stream.
                torch.cuda.set_stream(current)

        def replay() -> None:
            with torch.cuda.device(self._device):
                graph.replay()

        return Recording(places, outputs, replay)


class StepGraphs:
    """Records a function for a batch size when that size occurs the second time.

    Args:
        record: creates a recording.
        most: maximum number of recorded sizes.

    Attributes:
        problem: why recording has been given up; empty otherwise.
    """

    def __init__(
        self, record: Callable[[Function, Sequence[Tensor]], Recording], most: int = MOST
    ) -> None:
        self._record = record
        self._most = most
        self._largest = 0
        self._seen: set[Key] = set()
        # In order of use, the latest last.
        self._recordings: dict[Key, Recording] = {}
        self.problem = ""

    def __call__(self, function: Function, *inputs: Tensor) -> Tensors:
        """Apply the function, which must be the same in every call, to a batch."""
        if self.problem:
            return function(*inputs)
        count = len(inputs[0])
        size = self._size(count, inputs)
        inputs = tuple(_padded(value, size) for value in inputs)
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
        """The padded batch size for ``count`` images."""
        self._largest = max(self._largest, count)
        size = self._largest
        for halvings in range(1, self._most):
            half = -(-self._largest >> halvings)
            if half < count:
                break
            size = half
        # A recording from when the largest batch was smaller may fit more closely.
        recorded = [n for n in range(count, size) if _key(n, inputs) in self._recordings]
        return recorded[0] if recorded else size

    def _try_to_record(self, key: Key, function: Function, inputs: Sequence[Tensor]) -> None:
        if len(self._recordings) == self._most:
            del self._recordings[next(iter(self._recordings))]
        try:
            self._recordings[key] = self._record(function, inputs)
        except RuntimeError as error:
            self.problem = reason_of(error)[:200]
            warnings.warn(
                f"steps are computed without CUDA graphs: {self.problem}",
                GraphWarning,
                stacklevel=2,
            )


def _key(size: int, inputs: Sequence[Tensor]) -> Key:
    return tuple((size, *value.shape[1:]) for value in inputs)


def _padded(value: Tensor, size: int) -> Tensor:
    """Repeat the last row until there are ``size`` rows."""
    missing = size - len(value)
    return (
        value if not missing else torch.cat([value, value[-1:].expand(missing, *value.shape[1:])])
    )
