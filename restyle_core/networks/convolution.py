"""Convolutions with fixed weights, prepared in the fastest layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core.devices.fastest import Fastest
from restyle.kernels import native, winograd
from restyle.kernels.choice import Impl
from restyle.kernels.encoder_layers import activate_

Layer = Callable[[Tensor], Tensor]
"""Maps [B, in, H, W] to [B, out, H', W']."""


@dataclass(frozen=True)
class Target:
    """Device, dtype of activations and choice of operators of a prepared network."""

    device: torch.device
    dtype: torch.dtype
    impl: Impl = "auto"

    @property
    def packs(self) -> bool:
        """Whether weights can be stored in oneDNN's layout."""
        if self.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return False
        # oneDNN has a bfloat16 layout only for processors with bfloat16 instructions.
        return self.dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    @property
    def fuses(self) -> bool:
        """Whether compiled GPU operators fuse the operations between convolutions."""
        return self.device.type == "cuda" and native.library("cuda", self.impl) is not None

    def put(self, tensor: Tensor) -> Tensor:
        """Copy to the device and dtype of activations."""
        return tensor.detach().to(self.device, self.dtype, copy=True)

    def put_vector(self, tensor: Tensor) -> Tensor:
        """Copy to the device as float32, the dtype of arithmetic."""
        return tensor.detach().to(self.device, torch.float32, copy=True).contiguous()

    def filters(self, weight: Tensor, *, doubles: bool = False) -> winograd.Filters | None:
        """Winograd filters by :func:`restyle.kernels.winograd.transform`, or None if not faster."""
        if self.device.type != "cpu":
            return None
        return winograd.transform(weight, self.dtype, self.impl, doubles=doubles)


@dataclass(frozen=True)
class Geometry:
    """Stride, padding and groups of a convolution."""

    stride: int = 1
    padding: int = 1
    groups: int = 1


class Convolution:
    """A convolution, followed by a leaky ReLU if a slope is given.

    Args:
        weight: [out, in / groups, k, k].
        bias: [out].
        geometry: stride, padding, groups.
        target: device, dtype and operators.
        slope: of the leaky ReLU; [out] for one per channel (PReLU).
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        target: Target,
        slope: float | Tensor | None = None,
    ) -> None:
        self._layer: Layer
        filters = target.filters(weight) if geometry == Geometry() else None
        if filters is not None:
            slopes = None if slope is None else torch.as_tensor(slope).expand(len(weight))
            self._layer = minimal(filters, bias, slopes)
            return
        weight = target.put(weight)
        if target.fuses:
            self._layer = _fused(weight, bias, geometry, slope, target)
            return
        bias = None if bias is None else target.put(bias)
        slope = target.put(slope) if isinstance(slope, Tensor) else slope
        form = _Packed if target.packs else _plain
        self._layer = form(weight, bias, geometry, slope)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        return self._layer(x)


class FixedConvolution:
    """A 3x3 convolution with fixed weights, differentiable in its input, on a CPU.

    Its gradient is a convolution with fixed weights too: by the turned filters, or for a transposed
    convolution one of stride 2. Where Winograd filters pay, both are of that kind.

    Args:
        weight: [out, in, 3, 3].
        filters: of the weight, see :meth:`Target.filters`.
        target: device, dtype and operators.
        doubles: for the transposed convolution with stride 2 and without padding.
    """

    def __init__(
        self, weight: Tensor, filters: winograd.Filters, target: Target, *, doubles: bool
    ) -> None:
        self._filters = filters
        self._back: Layer
        weight = weight.detach()
        turned = None if doubles else target.filters(weight.flip(2, 3).transpose(0, 1))
        if turned is not None:
            self._back = minimal(turned)
            return
        own = target.put(weight.transpose(0, 1)).contiguous(memory_format=torch.channels_last)
        stride, own = (2, own) if doubles else (1, own.flip(2, 3))
        padding = 0 if doubles else 1
        self._back = lambda gradient: F.conv2d(gradient, own, stride=stride, padding=padding)

    @classmethod
    def of(cls, weight: Tensor, target: Target, *, doubles: bool) -> FixedConvolution | None:
        """Prepare a weight; None where torch's own convolution is not slower."""
        filters = target.filters(weight.detach(), doubles=doubles)
        return None if filters is None else cls(weight, filters, target, doubles=doubles)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W], or transposed [B, out, 2 H + 1, 2 W + 1]."""
        y: Tensor = _Fixed.apply(x, self._filters, self._back)  # type: ignore[no-untyped-call]
        return y


class _Fixed(torch.autograd.Function):
    """A convolution and the convolution that is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: winograd.Filters, back: Layer) -> Tensor:
        ctx.back = back
        return winograd.convolve(x, filters)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return ctx.back(gradient), None, None


def minimal(
    filters: winograd.Filters,
    bias: Tensor | None = None,
    slopes: Tensor | None = None,
    padding: Tensor | None = None,
) -> Layer:
    """Winograd convolution; arguments as for :func:`restyle.kernels.winograd.convolve`."""
    exact = [
        None if vector is None else vector.detach().to(torch.float32, copy=True).contiguous()
        for vector in (bias, slopes, padding)
    ]
    return lambda x: winograd.convolve(x, filters, bias=exact[0], slope=exact[1], padding=exact[2])


class _Packed:
    """Convolution with the weight in oneDNN's layout."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, geometry: Geometry, slope: float | Tensor | None
    ) -> None:
        self._weight, self._bias, self._slope = weight, bias, slope
        stride, padding = [geometry.stride] * 2, [geometry.padding] * 2
        self._moves = (padding, stride, [1, 1], geometry.groups)
        self._after = ("leaky_relu", [slope], "") if isinstance(slope, float) else ("none", [], "")
        self._ready = False
        self._packing = Lock()

    def __call__(self, x: Tensor) -> Tensor:
        # Several threads share the weights.
        with self._packing:
            if not self._ready:
                self._pack([1, *x.shape[1:]])
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, *self._moves, *self._after
        )
        return F.prelu(y, self._slope) if isinstance(self._slope, Tensor) else y

    def _pack(self, size: list[int]) -> None:
        # The best layout depends on the input size. In another layout oneDNN reorders the weight in
        # every call, which takes up to thirty times as long as a 1x1 convolution.
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            self._weight, *self._moves, size
        )
        self._ready = True


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


def in_best_layout(weight: Tensor, convolve: Callable[[Tensor, Tensor], Tensor]) -> Layer:
    """A convolution on a GPU with channels_last input and output.

    16-bit convolutions compute in that layout. In float32 a planar convolution with conversions is
    often faster; the faster one is chosen by measurement.

    Args:
        weight: of the convolution.
        convolve: function of an input and a weight.
    """
    last, planar = torch.channels_last, torch.contiguous_format
    own = weight.contiguous(memory_format=last)

    def as_it_is(x: Tensor) -> Tensor:
        # Without cuDNN the output has another layout, which later operators do not support.
        return convolve(x, own).contiguous(memory_format=last)

    if weight.dtype != torch.float32:
        return as_it_is
    other = weight.contiguous(memory_format=planar)

    def turned(x: Tensor) -> Tensor:
        return convolve(x.contiguous(memory_format=planar), other).contiguous(memory_format=last)

    return Fastest([as_it_is, turned])


def doubling(weight: Tensor) -> Layer:
    """A transposed 3x3 convolution with stride 2 on a GPU, in the fastest of several forms.

    Args:
        weight: [in, out, 3, 3].

    Returns:
        A function from [B, in, H, W] to [B, out, 2 H + 1, 2 W + 1], channels_last.
    """

    def transposed(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(x, weight, stride=2)

    return Fastest([in_best_layout(weight, transposed), _in_phases(weight)])


def _in_phases(weight: Tensor) -> Layer:
    """Four convolutions, for the outputs in even and odd rows and columns."""
    flat = weight.transpose(0, 1)
    # An even output combines the last tap of the previous input and the first tap of its own input.
    taps = {0: ([2, 0], 1), 1: ([1], 0)}
    phases = []
    for down, (rows, above) in taps.items():
        for across, (columns, left) in taps.items():
            part = flat[:, :, rows][:, :, :, columns].contiguous(memory_format=torch.channels_last)
            phases.append((down, across, part, (above, left)))

    def layer(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        y = torch.empty(
            (batch, weight.shape[1], 2 * height + 1, 2 * width + 1),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        for down, across, part, padding in phases:
            y[:, :, down::2, across::2] = F.conv2d(x, part, padding=padding)
        return y

    return layer


def _fused(
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    slope: float | Tensor | None,
    target: Target,
) -> Layer:
    """Convolution with bias and leaky ReLU in one pass instead of two or three."""
    moves = (geometry.stride, geometry.padding, 1, geometry.groups)
    bare = in_best_layout(weight, lambda x, weight: F.conv2d(x, weight, None, *moves))
    if bias is None and slope is None:
        return bare
    shift = target.put_vector(weight.new_zeros(len(weight)) if bias is None else bias)
    slopes = None
    if slope is not None:
        slopes = target.put_vector(torch.as_tensor(slope).expand(len(weight)))
    return lambda x: activate_(bare(x), shift, slopes)
