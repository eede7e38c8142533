"""A small encoder for small images, a tenth of the size of the published ones.

It has units of IR-SE50 with two changes. Group norm replaces batch norm, because refinement steps
have inputs of different statistics (the average image, then reconstructions), which running
averages would mix. Styles are read from feature maps of 1/8 and 1/4 of the image's side, because a
map of 4x4 pixels has lost positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.errors import CheckpointError
from restyle.core.networks.backbones import SqueezeExcite
from restyle.core.networks.progressive import styles_from_deltas
from restyle.core.networks.start_values import noise

_GROUP = 16
_SLOPE = 0.2


@dataclass(frozen=True)
class SmallEncoderConfig:
    """The shape of a :class:`SmallBackboneEncoder`.

    Attributes:
        n_styles: style vectors to predict; the first half comes from the 1/8 map.
        style_dim: length of a style vector.
        in_channels: 6 for refinement (image and reconstruction), 3 for a single pass.
        image_size: height and width of the input in pixels, multiples of 8.
        widths: channels of the four stages, multiples of 16.
        depths: units of the four stages.
        fine_width: channels of the 1/4 map for fine styles.
    """

    n_styles: int
    style_dim: int = 512
    in_channels: int = 6
    image_size: tuple[int, int] = (64, 64)
    widths: tuple[int, int, int, int] = (48, 96, 160, 256)
    depths: tuple[int, int, int, int] = (2, 3, 2, 1)
    fine_width: int = 192

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> SmallEncoderConfig:
        """Read the shape from weights.

        Raises:
            CheckpointError: keys that every such encoder has are missing.
        """
        try:
            depths = [0, 0, 0, 0]
            for stage in range(4):
                while f"stages.{stage}.{depths[stage]}.conv1.weight" in state:
                    depths[stage] += 1
            coarse, fine = state["coarse.pool"], state["fine.pool"]
            widths = [state[f"stages.{stage}.0.conv2.weight"].shape[0] for stage in range(4)]
            return cls(
                n_styles=coarse.shape[0] + fine.shape[0],
                style_dim=state["coarse.weight"].shape[2],
                in_channels=state["stem.weight"].shape[1],
                image_size=(coarse.shape[2] * 8, coarse.shape[3] * 8),
                widths=(widths[0], widths[1], widths[2], widths[3]),
                depths=(depths[0], depths[1], depths[2], depths[3]),
                fine_width=fine.shape[1],
            )
        except KeyError as error:
            raise CheckpointError(
                f"these weights are no SmallBackboneEncoder: the key {error} is missing"
            ) from error


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _GROUP, channels)


def _conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding=(kernel - 1) // 2, bias=False
    )
    # Initialisation on the meta device is slow and has no effect; see start_values.
    if not conv.weight.is_meta:
        nn.init.kaiming_normal_(conv.weight, a=_SLOPE, nonlinearity="leaky_relu")
    return conv


class Unit(nn.Module):
    """Residual unit: norm, conv, activation, conv, norm, squeeze-and-excitation."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels)
        self.conv1 = _conv(in_channels, channels)
        self.conv2 = _conv(channels, channels, stride=stride)
        self.norm2 = _norm(channels)
        self.se = SqueezeExcite(channels)
        self.stride = stride
        self.shortcut = None if in_channels == channels else _conv(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, channels, H / stride, W / stride]."""
        y = F.leaky_relu(self.conv1(self.norm1(x)), _SLOPE)
        branch: Tensor = self.se(self.norm2(self.conv2(y)))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        return branch + (x if self.shortcut is None else self.shortcut(x))


class StyleHead(nn.Module):
    """Head of several styles: a learned spatial pooling per channel, then a linear layer.

    Args:
        n_styles: number of styles.
        channels: channels of the map.
        size: height and width of the map.
        style_dim: length of a style vector.
    """

    def __init__(self, n_styles: int, channels: int, size: tuple[int, int], style_dim: int) -> None:
        super().__init__()
        area = size[0] * size[1]
        # The mean plus noise, so that channels differ from the start.
        pool = noise(n_styles, channels, *size, std=0.5 / math.sqrt(area), mean=1 / area)
        self.pool = nn.Parameter(pool)
        # Small values, so that initial residuals are near zero.
        self.weight = nn.Parameter(
            noise(n_styles, channels, style_dim, std=0.02 / math.sqrt(channels))
        )
        self.bias = nn.Parameter(torch.zeros(n_styles, style_dim))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, n_styles, style_dim] float32."""
        features = x.flatten(2).transpose(0, 1)  # [C, B, H*W]
        pool = self.pool.to(x.dtype).flatten(2).permute(1, 2, 0)  # [C, H*W, n]
        pooled = torch.bmm(features, pool).permute(2, 1, 0)  # [n, B, C]
        styles = torch.bmm(pooled, self.weight.to(pooled.dtype))
        return styles.transpose(0, 1).float() + self.bias.float()


class SmallBackboneEncoder(nn.Module):
    """Encoder of about four million parameters for images of 64x64 or so.

    Works in float32, under autocast, and in bfloat16; channels_last is fastest.

    Args:
        config: the shape.

    Attributes:
        PROGRESSIVE: whether the heads predict w0 and differences to it (2102.02766, section 4.1).
        progressive_stage: the last style with a difference during e4e's progressive training; None
            for all.
    """

    PROGRESSIVE: ClassVar[bool] = False

    def __init__(self, config: SmallEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.in_channels = config.in_channels
        self.n_styles = config.n_styles
        self.style_dim = config.style_dim
        self.progressive_stage: int | None = None
        height, width = config.image_size
        if height % 8 or width % 8:
            raise ValueError(f"image_size {config.image_size} is not a multiple of 8")
        first, _, _, last = config.widths
        # Stride 2, because maps of full resolution would dominate the time.
        self.stem = nn.Conv2d(config.in_channels, first, 4, 2, padding=1, bias=False)
        self.stages = nn.ModuleList()
        channels = first
        for wide, depth, stride in zip(config.widths, config.depths, (1, 2, 2, 1), strict=True):
            units = [Unit(channels, wide, stride)]
            units += [Unit(wide, wide, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*units))
            channels = wide
        self.coarse_norm = _norm(last)
        self.coarse_conv = _conv(last, last, 1)
        self.lateral = _conv(config.widths[1], config.fine_width, 1)
        self.top_down = _conv(last, config.fine_width, 1)
        self.fine_norm = _norm(config.fine_width)
        self.fine_conv = _conv(config.fine_width, config.fine_width)
        n_coarse = config.n_styles // 2
        style_dim = config.style_dim
        self.coarse = StyleHead(n_coarse, last, (height // 8, width // 8), style_dim)
        self.fine = StyleHead(
            config.n_styles - n_coarse, config.fine_width, (height // 4, width // 4), style_dim
        )

    def accepts(self, image_size: tuple[int, int]) -> bool:
        """Whether the pooling weights are for images of this height and width."""
        return image_size == self.config.image_size

    def forward(self, x: Tensor) -> Tensor:
        """Predict styles.

        Args:
            x: [B, in_channels, H, W] in [-1, 1], at ``config.image_size``.

        Returns:
            [B, n_styles, style_dim] float32: the residual to the last latent.
        """
        x = self.stages[0](self.stem(x))
        quarter = self.stages[1](x)
        eighth = self.stages[3](self.stages[2](quarter))
        coarse = F.leaky_relu(self.coarse_conv(self.coarse_norm(eighth)), _SLOPE)
        context = F.interpolate(self.top_down(eighth), scale_factor=2.0, mode="nearest")
        fine = self.fine_norm(self.lateral(quarter) + context)
        fine = F.leaky_relu(self.fine_conv(fine), _SLOPE)
        styles = torch.cat([self.coarse(coarse), self.fine(fine)], dim=1)
        return styles_from_deltas(styles, self.progressive_stage) if self.PROGRESSIVE else styles

    def clear_differences(self) -> None:
        """Make the heads of all styles but the first predict zero."""
        for parameter in (
            self.coarse.weight[1:],
            self.coarse.bias[1:],
            self.fine.weight,
            self.fine.bias,
        ):
            parameter.zero_()


class SmallProgressiveBackboneEncoder(SmallBackboneEncoder):
    """Small encoder with e4e's heads: w0 from the 1/8 map, and differences to it."""

    PROGRESSIVE = True
