"""The two backbones of the published encoders, in their key layouts: IR-SE50 and ResNet34.

IR-SE50 is the face recognition network of ArcFace (Deng et al., 1801.07698) with
squeeze-and-excitation; ResNet34 is He et al. (1512.03385) in torchvision's block layout, without
the max-pool. Both halve the image four times.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Four = tuple[int, int, int, int]


@dataclass(frozen=True)
class BackboneShape:
    """Channels and units of the four stages, and the channels of the input.

    Attributes:
        in_channels: 6 for refinement (image and reconstruction), 3 for a single pass.
        widths: channels of the stages, all different; the stem has those of the first.
        depths: units of the stages.
    """

    in_channels: int
    widths: Four
    depths: Four

    def units(self) -> Iterator[tuple[int, int, bool]]:
        """Yield input channels, output channels and "first of its stage" of each unit."""
        channels = self.widths[0]
        for width, depth in zip(self.widths, self.depths, strict=True):
            for unit in range(depth):
                yield channels, width, unit == 0
                channels = width


class Backbone(nn.Module):
    """Base class of both backbones: a stem, and a body of units with a feature map per stage.

    Attributes:
        PUBLISHED_DEPTHS: units per stage in the published checkpoints.
    """

    PUBLISHED_DEPTHS: ClassVar[Four]
    _STEM_KEY: ClassVar[str]
    _UNIT_KEY: ClassVar[str]

    body: nn.Module

    def __init__(self, shape: BackboneShape) -> None:
        super().__init__()
        self.shape = shape

    def stem(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> the body's input."""
        raise NotImplementedError

    def features(self, x: Tensor) -> list[Tensor]:
        """Run the backbone.

        Args:
            x: [B, in_channels, H, W] in [-1, 1].

        Returns:
            The maps after each stage, at 1/2, 1/4, 1/8 and 1/16 of the image's sides.
        """
        x = self.stem(x)
        ends = [end - 1 for end in itertools.accumulate(self.shape.depths)]
        maps = []
        for index, unit in enumerate(self.body.children()):
            x = unit(x)
            if index in ends:
                maps.append(x)
        return maps

    @classmethod
    def shape_from_state(cls, state: Mapping[str, Tensor]) -> BackboneShape:
        """Read the shape from weights.

        Raises:
            KeyError: keys that every such backbone has are missing.
        """
        widths: list[int] = []
        depths: list[int] = []
        for index in itertools.count():
            weight = state.get(cls._UNIT_KEY.format(index))
            if weight is None:
                break
            if not widths or weight.shape[0] != widths[-1]:
                widths.append(weight.shape[0])
                depths.append(0)
            depths[-1] += 1
        if len(widths) != 4:
            raise KeyError(cls._UNIT_KEY.format(sum(depths)))
        return BackboneShape(
            state[cls._STEM_KEY].shape[1],
            (widths[0], widths[1], widths[2], widths[3]),
            (depths[0], depths[1], depths[2], depths[3]),
        )


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: scale channels by a function of their means (1709.01507)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        factors: Tensor = self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        return x * torch.sigmoid(factors)


class IRSEUnit(nn.Module):
    """Residual unit of IR-SE50; of IR-101 without squeeze-and-excitation."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, *, excite: bool = True
    ) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == channels:
            # A window of one pixel only subsamples.
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            _conv3x3(in_channels, channels),
            nn.PReLU(channels),
            _conv3x3(channels, channels, stride),
            nn.BatchNorm2d(channels),
            *([SqueezeExcite(channels)] if excite else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, channels, H / stride, W / stride]."""
        residual: Tensor = self.res_layer(x)
        shortcut: Tensor = self.shortcut_layer(x)
        return residual + shortcut


class IRSE50(Backbone):
    """IR-SE50 without its classifier; every stage starts with stride 2.

    Args:
        shape: channels and units.
        excite: squeeze-and-excitation in the units.
    """

    PUBLISHED_DEPTHS = (3, 4, 14, 3)
    _STEM_KEY = "input_layer.0.weight"
    _UNIT_KEY = "body.{}.res_layer.1.weight"

    def __init__(self, shape: BackboneShape, *, excite: bool = True) -> None:
        super().__init__(shape)
        width = shape.widths[0]
        self.input_layer = nn.Sequential(
            _conv3x3(shape.in_channels, width), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        self.body = nn.Sequential(
            *(
                IRSEUnit(in_channels, channels, 2 if first else 1, excite=excite)
                for in_channels, channels, first in shape.units()
            )
        )

    def stem(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, C, H, W]."""
        y: Tensor = self.input_layer(x)
        return y


class ResNetBlock(nn.Module):
    """Basic block of ResNet34, with torchvision's names."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, channels, H / stride, W / stride]."""
        residual: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        return F.relu(residual + shortcut)


class ResNet34(Backbone):
    """ResNet34 without max-pool and classifier; the stem halves the image instead of stage 1."""

    PUBLISHED_DEPTHS = (3, 4, 6, 3)
    _STEM_KEY = "conv1.weight"
    _UNIT_KEY = "body.{}.conv1.weight"

    def __init__(self, shape: BackboneShape) -> None:
        super().__init__(shape)
        width = shape.widths[0]
        self.conv1 = nn.Conv2d(shape.in_channels, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.PReLU(width)
        self.body = nn.Sequential(
            *(
                ResNetBlock(in_channels, channels, 2 if in_channels != channels else 1)
                for in_channels, channels, _ in shape.units()
            )
        )

    def stem(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, C, H / 2, W / 2]."""
        y: Tensor = self.relu(self.bn1(self.conv1(x)))
        return y
