"""Convolutions whose weights stay what they are, in the layout in which they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import winograd
from kernels.choice import Impl

Layer = Callable[[Tensor], Tensor]
"""[B, in, H, W] -> [B, out, H', W']."""


@dataclass(frozen=True)
class Target:
    """Where, in which dtype and with which operators a network is to run."""

    device: torch.device
    dtype: torch.dtype
    impl: Impl = "auto"

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

    def filters(self, weight: Tensor) -> winograd.Filters | None:
        """What convolves with fewer multiplications; None where that does not pay."""
        on_cpu = self.device.type == "cpu"
        return winograd.transform(weight, self.dtype, self.impl) if on_cpu else None


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
        slope: of the leaky ReLU; [out] for one of each channel, which is a PReLU.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        target: Target,
        slope: float | Tensor | None = None,
    ) -> None:
        filters = target.filters(weight) if geometry == Geometry() else None
        if filters is not None:
            slopes = None if slope is None else torch.as_tensor(slope).expand(len(weight))
            self._layer = minimal(filters, bias, slopes)
            return
        weight = target.put(weight)
        bias = None if bias is None else target.put(bias)
        slope = target.put(slope) if isinstance(slope, Tensor) else slope
        self._layer = (_packed if target.packs else _plain)(weight, bias, geometry, slope)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        return self._layer(x)


def minimal(
    filters: winograd.Filters,
    bias: Tensor | None = None,
    slopes: Tensor | None = None,
    padding: Tensor | None = None,
) -> Layer:
    """With fewer multiplications; see :func:`kernels.winograd.convolve`."""
    vectors = {"bias": bias, "slope": slopes, "padding": padding}
    exact = {
        name: None if vector is None else vector.detach().to(torch.float32, copy=True).contiguous()
        for name, vector in vectors.items()
    }
    return lambda x: winograd.convolve(x, filters, **exact)


def _packed(
    weight: Tensor, bias: Tensor | None, geometry: Geometry, slope: float | Tensor | None
) -> Layer:
    """With the weight in oneDNN's layout."""
    moves = ([geometry.padding] * 2, [geometry.stride] * 2, [1, 1], geometry.groups)
    weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *moves)
    after = ("leaky_relu", [slope], "") if isinstance(slope, float) else ("none", [], "")

    def layer(x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *moves, *after)
        return F.prelu(y, slope) if isinstance(slope, Tensor) else y

    return layer


def _plain(
    weight: Tensor, bias: Tensor | None, geometry: Geometry, slope: float | Tensor | None
) -> Layer:
    weight = weight.contiguous(memory_format=torch.channels_last)

    def layer(x: Tensor) -> Tensor:
        stride, padding, groups = geometry.stride, geometry.padding, geometry.groups
        y = F.conv2d(x, weight, bias, stride, padding, 1, groups)
        if slope is None:
            return y
        return F.prelu(y, slope) if isinstance(slope, Tensor) else F.leaky_relu_(y, slope)

    return layer
