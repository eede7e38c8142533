"""Bringing batches to a GPU, and results from it, while it computes.

Copies between page-locked memory and a GPU go on beside its computations when they have a stream
of their own. Where there is no GPU everything is where it belongs already.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

Arrival = Callable[[], Tensor]
"""Gives a tensor once it is there."""


class Staging:
    """Copies to and from one device.

    Args:
        device: the CPU or a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @functools.cached_property
    def _copies(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def upload(self, tensor: Tensor) -> Arrival:
        """Begin to bring a tensor to the device.

        Args:
            tensor: best on the CPU, and not changed by anybody before it has arrived.

        Returns:
            Gives it there; what is asked of the GPU's current stream from then on comes after the
            copy, and the caller waits for nothing.
        """
        if self._device.type != "cuda" or tensor.device.type != "cpu":
            there = tensor.to(self._device)
            return lambda: there
        with torch.cuda.stream(self._copies):
            # Torch keeps the page-locked copy until this one of it is made.
            there = tensor.pin_memory().to(self._device, non_blocking=True)
            made = self._copies.record_event()

        def arrived() -> Tensor:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(made)
            # It was allocated for the copies' stream, which must not reuse it before this one is
            # done with it either.
            there.record_stream(current)
            return there

        return arrived

    def download(self, tensor: Tensor) -> Arrival:
        """Begin to bring a result to the CPU.

        Args:
            tensor: made in the GPU's current stream, and not changed after this call.

        Returns:
            Waits until it is there.
        """
        if tensor.device.type != "cuda":
            return lambda: tensor
        tensor = tensor.contiguous()
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            here.copy_(tensor, non_blocking=True)
            made = self._copies.record_event()
        # The caller may let go of it at once; its memory is free when the copy is made.
        tensor.record_stream(self._copies)

        def arrived() -> Tensor:
            made.synchronize()
            return here

        return arrived
