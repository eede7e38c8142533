"""Fused form of the published encoders for inference: folded batch norms, grouped heads.

A batch norm after a convolution is folded into its weight and bias. Of a norm before a convolution
(as in IR-SE50's units) the factor is folded into the weight and the shift becomes a bias, except at
the border: padding is not shifted by the norm, so the shares of padded taps are subtracted there.

The heads of one feature map become one convolution, one grouped convolution for each smaller size,
and one batched product. Their weights, 340 MB in bfloat16, dominate the memory traffic of a step,
so on the CPU all weights are converted to oneDNN's layout once. GPUs use
:mod:`restyle.core.inference.encoding.gpu_encoder`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.inference.encoding.folding import affine, norm_behind, norm_in_front
from restyle.core.inference.encoding.gpu_encoder import BatchedHeads, GpuIRSEUnit, GpuResNetBlock
from restyle.core.networks.backbones import IRSE50, IRSEUnit, ResNetBlock, SqueezeExcite
from restyle.core.networks.convolution import Convolution, Geometry, Layer, Target, minimal
from restyle.core.networks.encoders import (
    HEAD_SLOPE,
    AverageEncoder,
    Encoder,
    PyramidEncoder,
    StyleEncoder,
    StyleHead,
    pyramid,
)
from restyle.core.networks.last_layer import LastLayerEncoder
from restyle.core.networks.progressive import styles_from_deltas
from restyle.core.networks.small_encoder import SmallBackboneEncoder

# Types of the layers in sequences, for casts.
_ConvNorm = tuple[nn.Conv2d, nn.BatchNorm2d]
_Stem = tuple[nn.Conv2d, nn.BatchNorm2d, nn.PReLU]
_Residual = tuple[nn.BatchNorm2d, nn.Conv2d, nn.PReLU, nn.Conv2d, nn.BatchNorm2d, SqueezeExcite]


def _conv_norm(
    conv: nn.Conv2d, norm: nn.BatchNorm2d, target: Target, slope: float | Tensor | None = None
) -> Convolution:
    """A convolution without bias, a batch norm, and a leaky ReLU if a slope is given."""
    weight, bias = norm_behind(conv, norm)
    geometry = Geometry(conv.stride[0], int(conv.padding[0]))
    return Convolution(weight, bias, geometry, target, slope)


def _norm_conv(norm: nn.BatchNorm2d, conv: nn.Conv2d, prelu: nn.PReLU, target: Target) -> Layer:
    """A batch norm, a 3x3 convolution with padding 1 and without bias, and a PReLU."""
    factor, shift = affine(norm)
    weight, taps = norm_in_front(norm, conv)
    bias = taps.sum(dim=(1, 2))
    filters = target.filters(weight)
    if filters is not None and bool(factor.all()):
        # This padding value becomes zero in the norm.
        return minimal(filters, bias, prelu.weight, -shift / factor)
    return _NormConv(weight, bias, taps, target.put(prelu.weight), target)


class _NormConv:
    """A batch norm, a zero-padded 3x3 convolution and a PReLU, with corrected borders.

    Args:
        weight: [out, in, 3, 3], scaled by the norm.
        bias: [out], the sum of the taps.
        taps: [out, 3, 3], the bias of each tap.
        slopes: [out] of the PReLU.
        target: device and dtype.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, taps: Tensor, slopes: Tensor, target: Target
    ) -> None:
        self._conv = Convolution(weight, bias, Geometry(), target)
        self._slopes = slopes
        rows, columns = taps.sum(dim=2), taps.sum(dim=1)
        self._rows = [(at, target.put(rows[:, at, None])) for at in (0, -1)]
        self._columns = [(at, target.put(columns[:, at, None])) for at in (0, -1)]
        # Row and column both subtract the corner, so it is added once.
        self._corners = [
            (row, column, target.put(taps[:, row, column])) for row in (0, -1) for column in (0, -1)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        y = self._conv(x)
        for at, shift in self._rows:
            y[:, :, at] -= shift
        for at, shift in self._columns:
            y[:, :, :, at] -= shift
        for row, column, shift in self._corners:
            y[:, :, row, column] += shift
        return F.prelu(y, self._slopes)


class _Excite:
    """Channel factors of squeeze-and-excitation."""

    def __init__(self, block: SqueezeExcite, target: Target) -> None:
        self._down = target.put(block.fc1.weight.flatten(1))
        self._up = target.put(block.fc2.weight.flatten(1))

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        hidden = F.relu(F.linear(x.mean(dim=(2, 3)), self._down))
        return torch.sigmoid(F.linear(hidden, self._up))[:, :, None, None]


class _IRSEUnit:
    def __init__(self, unit: IRSEUnit, target: Target) -> None:
        norm, conv1, prelu, conv2, norm2, excite = cast(_Residual, tuple(unit.res_layer))
        self._conv1 = _norm_conv(norm, conv1, prelu, target)
        self._conv2 = _conv_norm(conv2, norm2, target)
        self._excite = _Excite(excite, target)
        self._stride = conv2.stride[0]
        self._shortcut: Layer | None = None
        if isinstance(unit.shortcut_layer, nn.Sequential):
            conv, norm = cast(_ConvNorm, tuple(unit.shortcut_layer))
            self._shortcut = _conv_norm(conv, norm, target)

    def __call__(self, x: Tensor) -> Tensor:
        residual = self._conv2(self._conv1(x))
        if self._shortcut is not None:
            x = self._shortcut(x)
        elif self._stride > 1:
            x = x[:, :, :: self._stride, :: self._stride]
        return torch.addcmul(x, residual, self._excite(residual))


class _ResNetBlock:
    def __init__(self, block: ResNetBlock, target: Target) -> None:
        self._conv1 = _conv_norm(block.conv1, block.bn1, target, slope=0.0)
        self._conv2 = _conv_norm(block.conv2, block.bn2, target)
        self._shortcut: Layer | None = None
        if block.downsample is not None:
            conv, norm = cast(_ConvNorm, tuple(block.downsample))
            self._shortcut = _conv_norm(conv, norm, target)

    def __call__(self, x: Tensor) -> Tensor:
        residual = self._conv2(self._conv1(x))
        return F.relu_(residual.add_(x if self._shortcut is None else self._shortcut(x)))


class _Heads:
    """Heads on one feature map as grouped convolutions and a batched product."""

    def __init__(self, heads: Sequence[StyleHead], target: Target) -> None:
        count = len(heads)
        layers = zip(*(head.convs.children() for head in heads), strict=True)
        convs = [layer for layer in layers if isinstance(layer[0], nn.Conv2d)]
        self._convs = []
        for index, layer in enumerate(convs):
            # Converted before concatenation, which halves the peak memory.
            weight = torch.cat([target.put(conv.weight) for conv in layer])
            bias = torch.cat([target.put(conv.bias) for conv in layer])
            geometry = Geometry(stride=2, groups=1 if index == 0 else count)
            self._convs.append(Convolution(weight, bias, geometry, target, HEAD_SLOPE))
        # The last layer is small and runs in float32, so that latents are not rounded.
        exact = Target(target.device, torch.float32)
        linears = [head.linear for head in heads]
        self._weight = torch.stack([exact.put(each.weight.t() * each.scale) for each in linears])
        self._bias = torch.stack([exact.put(each.bias * each.lr) for each in linears])

    def __call__(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, heads, style_dim] float32."""
        for conv in self._convs:
            x = conv(x)
        rows = x.float().reshape(len(x), *self._bias.shape).transpose(0, 1)
        return torch.baddbmm(self._bias[:, None], rows, self._weight).transpose(0, 1)


def _stem(encoder: StyleEncoder | LastLayerEncoder, target: Target) -> Layer:
    parts = (
        tuple(encoder.input_layer)
        if isinstance(encoder, IRSE50)
        else (encoder.conv1, encoder.bn1, encoder.relu)
    )
    conv, norm, prelu = cast(_Stem, parts)
    return _conv_norm(conv, norm, target, prelu.weight)


def _unit(unit: nn.Module, target: Target) -> Layer:
    if isinstance(unit, IRSEUnit):
        return GpuIRSEUnit(unit, target) if target.fuses else _IRSEUnit(unit, target)
    block = cast(ResNetBlock, unit)
    return GpuResNetBlock(block, target) if target.fuses else _ResNetBlock(block, target)


def prepare_encoder(
    encoder: Encoder, target: Target
) -> FusedEncoder | FusedLastLayerEncoder | SmallBackboneEncoder | AverageEncoder:
    """Prepare an encoder for inference.

    Args:
        encoder: the weights; a published encoder is copied, one without batch norms is moved.
        target: device and dtype.
    """
    if isinstance(encoder, StyleEncoder):
        return FusedEncoder(encoder, target)
    if isinstance(encoder, LastLayerEncoder):
        return FusedLastLayerEncoder(encoder, target)
    exact = target.dtype == torch.float32
    layout = torch.preserve_format if exact else torch.channels_last
    encoder.to(target.device, target.dtype, memory_format=layout)  # type: ignore[call-overload]
    return encoder


class _Trunk:
    """Stem and body of a backbone.

    Args:
        encoder: the weights; they are copied.
        target: device and dtype.
    """

    def __init__(self, encoder: StyleEncoder | LastLayerEncoder, target: Target) -> None:
        self._stem = _stem(encoder, target)
        units = iter(encoder.body.children())
        self._stages = [
            [_unit(unit, target) for unit in itertools.islice(units, depth)]
            for depth in encoder.shape.depths
        ]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """[B, in_channels, H, W] -> the map after each stage."""
        x = self._stem(x)
        maps = []
        for stage in self._stages:
            for unit in stage:
                x = unit(x)
            maps.append(x)
        return maps


class FusedLastLayerEncoder:
    """An encoder that reads all styles from the last map, for inference.

    Args:
        encoder: the weights of the backbone are copied, those of the head are moved.
        target: device and dtype.

    Attributes:
        in_channels: 6 for refinement (image and reconstruction), 3 for a single pass.
        n_styles: number of predicted style vectors.
        style_dim: length of a style vector.
    """

    def __init__(self, encoder: LastLayerEncoder, target: Target) -> None:
        self.in_channels = encoder.in_channels
        self.n_styles = encoder.n_styles
        self.style_dim = encoder.style_dim
        self._trunk = _Trunk(encoder, target)
        # The head runs in float32, so that latents are not rounded.
        self._head = encoder.to(target.device, torch.float32).head

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] in [-1, 1] -> [B, n_styles, style_dim] float32."""
        return self._head(self._trunk(x)[-1])


class FusedEncoder:
    """A published encoder for inference.

    Args:
        encoder: the weights; they are copied.
        target: device and dtype.

    Attributes:
        in_channels: 6 for refinement (image and reconstruction), 3 for a single pass.
        n_styles: number of predicted style vectors.
        style_dim: length of a style vector.
    """

    def __init__(self, encoder: StyleEncoder, target: Target) -> None:
        self.in_channels = encoder.in_channels
        self.n_styles = encoder.n_styles
        self.style_dim = encoder.style_dim
        self._progressive = encoder.PROGRESSIVE
        self._trunk = _Trunk(encoder, target)
        self._lateral = None
        if isinstance(encoder, PyramidEncoder):
            lateral = (encoder.latlayer1, encoder.latlayer2)
            self._lateral = [
                Convolution(conv.weight, conv.bias, Geometry(padding=0), target) for conv in lateral
            ]
        sides = itertools.groupby(range(encoder.n_styles), encoder.spatial)
        heads = BatchedHeads if target.fuses else _Heads
        self._heads = {
            side: heads([cast(StyleHead, encoder.styles[at]) for at in styles], target)
            for side, styles in sides
        }

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Predict styles, as :meth:`restyle.core.networks.encoders.StyleEncoder.forward`.

        Args:
            x: [B, in_channels, H, W] in [-1, 1], preferably channels_last.

        Returns:
            [B, n_styles, style_dim] float32.
        """
        maps = self._trunk(x)
        levels = {16: maps[-1]} if self._lateral is None else pyramid(maps, *self._lateral)
        rows = torch.cat([heads(levels[side]) for side, heads in self._heads.items()], dim=1)
        return styles_from_deltas(rows) if self._progressive else rows
