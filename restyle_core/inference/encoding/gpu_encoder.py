"""Fused units and heads of the published encoders on a GPU.

Each group of pointwise operations between two convolutions is one kernel of
:mod:`restyle.kernels.encoder_layers`. The bias from a batch norm before a convolution differs at
the border and is stored as a table.

The heads of one feature map become one convolution, and one batched product of image windows and
weights for each smaller size. The last product has inputs of 2x2 pixels, so only those taps of its
3x3 weights are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.inference.encoding.folding import norm_behind, norm_in_front
from restyle.core.networks.backbones import IRSEUnit, ResNetBlock, SqueezeExcite
from restyle.core.networks.convolution import Convolution, Geometry, Target
from restyle.core.networks.encoders import HEAD_SLOPE, StyleHead
from restyle.kernels.encoder_layers import activate_, add_shortcut_, edge_table, excitation

# Types of the layers in sequences, for casts.
_ConvNorm = tuple[nn.Conv2d, nn.BatchNorm2d]
_Residual = tuple[nn.BatchNorm2d, nn.Conv2d, nn.PReLU, nn.Conv2d, nn.BatchNorm2d, SqueezeExcite]


class _ConvolutionWithoutBias:
    """A convolution with a folded batch norm, whose bias a later kernel adds."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, target: Target) -> None:
        weight, bias = norm_behind(conv, norm)
        geometry = Geometry(conv.stride[0], int(conv.padding[0]))
        self.convolve = Convolution(weight, None, geometry, target)
        self.bias = target.put_vector(bias)


class GpuIRSEUnit:
    """A unit of IR-SE50.

    Args:
        unit: the weights.
        target: a GPU.
    """

    def __init__(self, unit: IRSEUnit, target: Target) -> None:
        norm, conv1, prelu, conv2, norm2, excite = cast(_Residual, tuple(unit.res_layer))
        weight, taps = norm_in_front(norm, conv1)
        self._conv1 = Convolution(weight, None, Geometry(), target)
        self._edges = target.put_vector(edge_table(taps))
        self._slope = target.put_vector(prelu.weight)
        self._conv2 = _ConvolutionWithoutBias(conv2, norm2, target)
        self._down = target.put_vector(excite.fc1.weight.flatten(1))
        self._up = target.put_vector(excite.fc2.weight.flatten(1).t())
        self._stride = conv2.stride[0]
        self._shortcut: _ConvolutionWithoutBias | None = None
        if isinstance(unit.shortcut_layer, nn.Sequential):
            conv, norm = cast(_ConvNorm, tuple(unit.shortcut_layer))
            self._shortcut = _ConvolutionWithoutBias(conv, norm, target)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / stride, W / stride]."""
        y = activate_(self._conv1(x), self._edges, self._slope)
        y = self._conv2.convolve(y)
        factors = excitation(y, self._conv2.bias, self._down, self._up)
        shortcut, bias = x, None
        if self._shortcut is not None:
            shortcut, bias = self._shortcut.convolve(x), self._shortcut.bias
        elif self._stride > 1:
            shortcut = x[:, :, :: self._stride, :: self._stride]
        return add_shortcut_(y, shortcut, self._conv2.bias, bias, factors)


class GpuResNetBlock:
    """A block of ResNet34.

    Args:
        block: the weights.
        target: a GPU.
    """

    def __init__(self, block: ResNetBlock, target: Target) -> None:
        self._conv1 = _ConvolutionWithoutBias(block.conv1, block.bn1, target)
        self._relu_slope = torch.zeros_like(self._conv1.bias)
        self._conv2 = _ConvolutionWithoutBias(block.conv2, block.bn2, target)
        self._shortcut: _ConvolutionWithoutBias | None = None
        if block.downsample is not None:
            conv, norm = cast(_ConvNorm, tuple(block.downsample))
            self._shortcut = _ConvolutionWithoutBias(conv, norm, target)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / stride, W / stride]."""
        y = activate_(self._conv1.convolve(x), self._conv1.bias, self._relu_slope)
        y = self._conv2.convolve(y)
        shortcut, bias = x, None
        if self._shortcut is not None:
            shortcut, bias = self._shortcut.convolve(x), self._shortcut.bias
        return add_shortcut_(y, shortcut, self._conv2.bias, bias, cuts=True)


class BatchedHeads:
    """Heads on one feature map.

    Args:
        heads: the weights, all of one shape.
        target: a GPU.
    """

    def __init__(self, heads: Sequence[StyleHead], target: Target) -> None:
        layers = zip(*(head.convs.children() for head in heads), strict=True)
        first, *others = [layer for layer in layers if isinstance(layer[0], nn.Conv2d)]
        self._heads = len(heads)
        weight = torch.cat([target.put(conv.weight) for conv in first])
        bias = torch.cat([target.put_vector(conv.bias) for conv in first])
        self._first = Convolution(weight, bias, Geometry(stride=2), target, HEAD_SLOPE)
        self._products = [
            _Product(cast(Sequence[nn.Conv2d], layer), target, last=layer is others[-1])
            for layer in others
        ]
        # The last layer is small and runs in float32, so that latents are not rounded.
        linears = [head.linear for head in heads]
        self._weight = torch.stack(
            [target.put_vector(each.weight.t() * each.scale) for each in linears]
        )
        self._bias = torch.stack([target.put_vector(each.bias * each.lr) for each in linears])

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, heads, style_dim] float32."""
        y = self._first(x)
        # [heads, B, H, W, style_dim]
        pixels = y.permute(0, 2, 3, 1)
        maps = pixels.view(*pixels.shape[:3], self._heads, -1).permute(3, 0, 1, 2, 4)
        for product in self._products:
            maps = product(maps)
        rows = maps.reshape(self._heads, len(x), -1).float()
        return torch.baddbmm(self._bias[:, None], rows, self._weight).transpose(0, 1)


class _Product:
    """A 3x3 convolution with stride 2 and padding 1 for each head, and a leaky ReLU.

    Args:
        convs: one convolution for each head.
        target: a GPU.
        last: inputs have at most 2x2 pixels.
    """

    def __init__(self, convs: Sequence[nn.Conv2d], target: Target, *, last: bool) -> None:
        # [heads, 3, 3, in, out]
        weights = torch.stack([target.put(conv.weight).permute(2, 3, 1, 0) for conv in convs])
        self._last = last
        if last:
            # The first row and column of the window are padding.
            weights = weights[:, 1:, 1:]
        self._weights = weights.flatten(1, 3).contiguous()
        biases = [target.put(cast(Tensor, conv.bias)) for conv in convs]
        self._bias = torch.stack(biases)[:, None]

    def __call__(self, maps: Tensor) -> Tensor:
        """[heads, B, H, W, in] -> [heads, B, H / 2, W / 2, out]."""
        heads, batch, height, width, channels = maps.shape
        weights, size = self._weights, ((height + 1) // 2, (width + 1) // 2)
        if not self._last:
            windows = _windows(maps, size).reshape(heads, batch * size[0] * size[1], -1)
        else:
            windows = maps.reshape(heads, batch, -1)
            if (height, width) != (2, 2):
                taps = weights.view(heads, 2, 2, channels, -1)[:, :height, :width]
                weights = taps.reshape(heads, windows.shape[2], -1)
        made = torch.baddbmm(self._bias, windows, weights)
        return F.leaky_relu_(made, HEAD_SLOPE).view(heads, batch, *size, -1)


def _windows(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Windows of the outputs: [heads, B, H, W, C] -> [heads, B, *size, 3, 3, C]."""
    padded = F.pad(maps, (0, 0, 1, 1, 1, 1)).contiguous()
    head, image, row, column, channel = padded.stride()
    shape = (*maps.shape[:2], *size, 3, 3, maps.shape[4])
    return padded.as_strided(shape, (head, image, 2 * row, 2 * column, row, column, channel))
