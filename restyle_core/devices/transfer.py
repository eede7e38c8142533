"""Copies between CPU and GPU that overlap with computation.

Copies between page-locked memory and a GPU overlap with computation if they use a separate stream.
Without a GPU nothing is copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

Arrival = Callable[[], Tensor]
"""Waits for a copy and returns the tensor."""


class DeviceTransfer:
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
        """Start to copy a tensor to the device.

        Args:
            tensor: preferably on the CPU; must not change until the copy has arrived.

        Returns:
            A function that makes the GPU's current stream wait for the copy and returns it; the
            caller does not wait.
        """
        if self._device.type != "cuda" or tensor.device.type != "cpu":
            there = tensor.to(self._device)
            return lambda: there
        with torch.cuda.stream(self._copies):
            # Torch keeps the page-locked copy until the transfer is done.
            there = tensor.pin_memory().to(self._device, non_blocking=True)
            made = self._copies.record_event()

        def arrived() -> Tensor:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(made)
            # The memory belongs to the copy stream, which must not reuse it before this stream.
            there.record_stream(current)
            return there

        return arrived

    def download(self, tensor: Tensor) -> Arrival:
        """Start to copy a result to the CPU.

        Args:
            tensor: computed in the GPU's current stream; must not change after this call.

        Returns:
            A function that waits for the copy and returns it.
        """
        if tensor.device.type != "cuda":
            return lambda: tensor
        tensor = tensor.contiguous()
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            here.copy_(tensor, non_blocking=True)
            made = self._copies.record_event()
        # The caller may release the tensor at once; its memory is reused after the copy.
        tensor.record_stream(self._copies)

        def arrived() -> Tensor:
            made.synchronize()
            return here

        return arrived
