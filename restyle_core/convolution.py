"""Convolutions whose weights stay what they are, in the layout in which they are used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """Where and in which dtype an encoder is to run."""

    device: torch.device
    dtype: torch.dtype

    @property
    def packs(self) -> bool:
        """Whether weights can be kept in oneDNN's layout."""
        if self.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return False
        # Where the processor cannot multiply bfloat16, oneDNN has no such layout.
        return self.dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def put(self, tensor: Tensor) -> Tensor:
        """A copy there."""
        return tensor.detach().to(self.device, self.dtype, copy=True)


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over its input."""

    stride: int = 1
    padding: int = 1
    groups: int = 1


class Convolution:
    """A convolution, and a leaky ReLU behind it if a slope is given.

    Args:
        weight: [out, in / groups, k, k].
        bias: [out].
        geometry: stride, padding, groups.
        target: where it runs.
        slope: of the leaky ReLU.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        target: Target,
        slope: float | None = None,
    ) -> None:
        self._weight = target.put(weight)
        self._bias = None if bias is None else target.put(bias)
        self._geometry = geometry
        self._slope = slope
        self._packed = target.packs
        if self._packed:
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, *self._moves(), geometry.groups
            )
        else:
            self._weight = self._weight.contiguous(memory_format=torch.channels_last)

    def _moves(self) -> tuple[list[int], list[int], list[int]]:
        return [self._geometry.padding] * 2, [self._geometry.stride] * 2, [1, 1]

    def __call__(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        padding, stride, dilation = self._moves()
        groups, slope = self._geometry.groups, self._slope
        if self._packed:
            after = ("none", [], "") if slope is None else ("leaky_relu", [slope], "")
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self._weight, self._bias, padding, stride, dilation, groups, *after
            )
            return y
        y = F.conv2d(x, self._weight, self._bias, stride, padding, dilation, groups)
        return y if slope is None else F.leaky_relu_(y, slope)
