"""The encoders of ReStyle, pSp and e4e, in the key layouts of the published checkpoints.

An encoder maps an image, or an image and its last reconstruction, to one vector per style.
ReStyle's encoders (Alaluf et al., 2104.02699, section 3) read every style from the backbone's
last map; those of pSp (Richardson et al., 2008.00951) and e4e (Tov et al., 2102.02766) from a
feature pyramid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.errors import CheckpointError
from restyle.core.networks.backbones import IRSE50, Backbone, BackboneShape, Four, ResNet34
from restyle.core.networks.config import EncoderKind
from restyle.core.networks.generator import EqualizedLinear
from restyle.core.networks.last_layer import BackboneIntoW, BackboneIntoWPlus, LastLayerEncoder
from restyle.core.networks.progressive import styles_from_deltas
from restyle.core.networks.small_encoder import (
    SmallBackboneEncoder,
    SmallEncoderConfig,
    SmallProgressiveBackboneEncoder,
)

HEAD_SLOPE = 0.01
PUBLISHED_WIDTHS: Four = (64, 128, 256, 512)
PUBLISHED_SIDE = 256
"""Largest side in pixels of a published encoder's input."""


@dataclass(frozen=True)
class EncoderShape:
    """The shape of a published encoder.

    Attributes:
        backbone: channels and units.
        n_styles: style vectors to predict.
        style_dim: length of a style vector, and the width of the heads.
    """

    backbone: BackboneShape
    n_styles: int
    style_dim: int = 512


class StyleHead(nn.Module):
    """Head of one style: convolutions that reduce a map to one pixel, and a linear layer.

    Args:
        in_channels: channels of the map.
        style_dim: length of the style vector.
        spatial: side of the map at the published input size; there are log2(spatial) convolutions.
    """

    def __init__(self, in_channels: int, style_dim: int, spatial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(int(math.log2(spatial))):
            layers.append(
                nn.Conv2d(in_channels if index == 0 else style_dim, style_dim, 3, 2, padding=1)
            )
            layers.append(nn.LeakyReLU(HEAD_SLOPE))
        self.convs = nn.Sequential(*layers)
        self.linear = EqualizedLinear(style_dim, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, style_dim]."""
        style: Tensor = self.linear(self.convs(x).flatten(1))
        return style


class StyleEncoder(Backbone):
    """A backbone with one head per style.

    Args:
        shape: channels, units and number of styles.

    Attributes:
        KIND: the name in checkpoints.
        PROGRESSIVE: whether the heads predict w0 and differences to it (2102.02766, section 4.1).
        progressive_stage: the last style with a difference during e4e's progressive training; None
            for all.
    """

    KIND: ClassVar[EncoderKind]
    PROGRESSIVE: ClassVar[bool] = False

    styles: nn.ModuleList

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__(shape.backbone)
        self.in_channels = shape.backbone.in_channels
        self.n_styles = shape.n_styles
        self.style_dim = shape.style_dim
        self.progressive_stage: int | None = None
        channels = shape.backbone.widths[-1]
        self.styles = nn.ModuleList(
            StyleHead(channels, shape.style_dim, self.spatial(index))
            for index in range(shape.n_styles)
        )

    @staticmethod
    def accepts(image_size: tuple[int, int]) -> bool:
        """Whether every head reduces images of this height and width to one pixel."""
        return max(image_size) <= PUBLISHED_SIDE

    @staticmethod
    def spatial(style: int) -> int:
        """Side of a style's feature map at the published input size."""
        del style
        return 16

    def levels(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Feature maps of the styles by :meth:`spatial`, from the backbone's maps."""
        return {16: features[-1]}

    def forward(self, x: Tensor) -> Tensor:
        """Predict styles.

        Args:
            x: [B, in_channels, H, W] in [-1, 1]; 256x256 for published models (cars 192x256), or
                smaller.

        Returns:
            [B, n_styles, style_dim] float32: the residual to the last latent.
        """
        levels = self.levels(self.features(x))
        vectors = [head(levels[self.spatial(at)]) for at, head in enumerate(self.styles)]
        styles = torch.stack(vectors, dim=1).float()
        return styles_from_deltas(styles, self.progressive_stage) if self.PROGRESSIVE else styles

    def clear_differences(self) -> None:
        """Make the heads of all styles but the first predict zero."""
        for key, parameter in self.styles[1:].named_parameters():
            if ".linear." in key:
                parameter.zero_()


class PyramidEncoder(StyleEncoder):
    """Heads on a feature pyramid: styles 0-2 from 1/16, 3-6 from 1/8, the rest from 1/4."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__(shape)
        _, fine, middle, coarse = shape.backbone.widths
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)

    @staticmethod
    def spatial(style: int) -> int:
        """Side of a style's feature map at the published input size."""
        if style < 3:
            return 16
        return 32 if style < 7 else 64

    def levels(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Feature maps of the styles by :meth:`spatial`, from the backbone's maps."""
        return pyramid(features, self.latlayer1, self.latlayer2)


def pyramid(
    features: Sequence[Tensor],
    latlayer1: Callable[[Tensor], Tensor],
    latlayer2: Callable[[Tensor], Tensor],
) -> dict[int, Tensor]:
    """Feature pyramid: add upsampled coarse maps to finer ones (2008.00951, section 3.1).

    Args:
        features: the backbone's maps.
        latlayer1: converts the map at 1/8 to the channels of that at 1/16.
        latlayer2: converts the map at 1/4 likewise.

    Returns:
        Maps by their side at the published input size: 16, 32, 64.
    """
    _, fine, middle, coarse = features
    middle = _upsample_add(coarse, latlayer1(middle))
    return {16: coarse, 32: middle, 64: _upsample_add(middle, latlayer2(fine))}


def _upsample_add(x: Tensor, lateral: Tensor) -> Tensor:
    size = lateral.shape[-2:]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True) + lateral


class BackboneEncoder(StyleEncoder, IRSE50):
    """ReStyle over pSp: IR-SE50, independent heads."""

    KIND = EncoderKind.BACKBONE


class ProgressiveBackboneEncoder(StyleEncoder, IRSE50):
    """ReStyle over e4e: IR-SE50, w0 and differences."""

    KIND = EncoderKind.PROGRESSIVE_BACKBONE
    PROGRESSIVE = True


class ResNetBackboneEncoder(StyleEncoder, ResNet34):
    """ReStyle over pSp outside of faces: ResNet34, independent heads."""

    KIND = EncoderKind.RESNET_BACKBONE


class ResNetProgressiveBackboneEncoder(StyleEncoder, ResNet34):
    """ReStyle over e4e outside of faces: ResNet34, w0 and differences."""

    KIND = EncoderKind.RESNET_PROGRESSIVE_BACKBONE
    PROGRESSIVE = True


class GradualStyleEncoder(PyramidEncoder, IRSE50):
    """pSp: feature pyramid on IR-SE50, independent heads."""

    KIND = EncoderKind.GRADUAL_STYLE


class ResNetGradualStyleEncoder(PyramidEncoder, ResNet34):
    """pSp with a ResNet34 backbone."""

    KIND = EncoderKind.RESNET_GRADUAL_STYLE


class Encoder4Editing(PyramidEncoder, IRSE50):
    """e4e: feature pyramid on IR-SE50, w0 and differences."""

    KIND = EncoderKind.ENCODER4EDITING
    PROGRESSIVE = True


class AverageEncoder(nn.Module):
    """In place of an encoder for a generator that has none: it predicts no residual.

    Every image gets the average latent, where optimisation starts.

    Args:
        n_styles: style vectors to predict.
        style_dim: length of a style vector.
    """

    PROGRESSIVE: ClassVar[bool] = False

    def __init__(self, n_styles: int, style_dim: int) -> None:
        super().__init__()
        self.in_channels = 3
        self.n_styles = n_styles
        self.style_dim = style_dim
        self.progressive_stage: int | None = None

    @staticmethod
    def accepts(image_size: tuple[int, int]) -> bool:
        """Whether it takes images of this height and width, as it does of any."""
        return min(image_size) > 0

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> zeros [B, n_styles, style_dim] float32."""
        return torch.zeros(len(x), self.n_styles, self.style_dim, device=x.device)

    def clear_differences(self) -> None:
        """Do nothing: there are none."""


Encoder = StyleEncoder | LastLayerEncoder | SmallBackboneEncoder | AverageEncoder

_SMALL_ENCODERS = {
    EncoderKind.SMALL_BACKBONE: SmallBackboneEncoder,
    EncoderKind.SMALL_PROGRESSIVE_BACKBONE: SmallProgressiveBackboneEncoder,
}

_STYLE_ENCODERS: dict[EncoderKind, type[StyleEncoder]] = {
    cls.KIND: cls
    for cls in (
        BackboneEncoder,
        ProgressiveBackboneEncoder,
        ResNetBackboneEncoder,
        ResNetProgressiveBackboneEncoder,
        GradualStyleEncoder,
        ResNetGradualStyleEncoder,
        Encoder4Editing,
    )
}


_LAST_LAYER_ENCODERS: dict[EncoderKind, type[LastLayerEncoder]] = {
    EncoderKind.INTO_W: BackboneIntoW,
    EncoderKind.INTO_W_PLUS: BackboneIntoWPlus,
}

PROGRESSIVE = frozenset(
    {kind for kind, cls in _STYLE_ENCODERS.items() if cls.PROGRESSIVE}
    | {kind for kind, cls in _SMALL_ENCODERS.items() if cls.PROGRESSIVE}
)
"""Encoders that predict w0 and differences to it (2102.02766, section 4.1)."""


def encoder_of_shape(kind: EncoderKind, shape: EncoderShape | SmallEncoderConfig) -> Encoder:
    """Create an encoder of any size with random weights.

    Args:
        kind: the architecture.
        shape: of the small encoder, or of a published one.
    """
    if isinstance(shape, SmallEncoderConfig):
        return _SMALL_ENCODERS[kind](shape)
    if kind in _LAST_LAYER_ENCODERS:
        return _LAST_LAYER_ENCODERS[kind](shape.backbone, shape.n_styles, shape.style_dim)
    return _STYLE_ENCODERS[kind](shape)


def build_encoder(
    kind: EncoderKind,
    n_styles: int,
    style_dim: int = 512,
    in_channels: int = 6,
    image_size: tuple[int, int] = (64, 64),
) -> Encoder:
    """Create an encoder of its usual size with random weights.

    Args:
        kind: the architecture.
        n_styles: style vectors to predict.
        style_dim: length of a style vector.
        in_channels: 6 for refinement (image and reconstruction), 3 for a single pass.
        image_size: height and width of the input in pixels; only the small encoder's weights
            depend on it.
    """
    if kind in _SMALL_ENCODERS:
        config = SmallEncoderConfig(n_styles, style_dim, in_channels, image_size)
        return _SMALL_ENCODERS[kind](config)
    depths = IRSE50.PUBLISHED_DEPTHS
    if kind in _STYLE_ENCODERS:
        depths = _STYLE_ENCODERS[kind].PUBLISHED_DEPTHS
    backbone = BackboneShape(in_channels, PUBLISHED_WIDTHS, depths)
    return encoder_of_shape(kind, EncoderShape(backbone, n_styles, style_dim))


def encoder_from_state(
    kind: EncoderKind, state: Mapping[str, Tensor], n_styles: int = 1
) -> Encoder:
    """Create an encoder on the meta device with the shape of given weights.

    Args:
        kind: the architecture.
        state: the weights, whose shapes are read; they are not loaded.
        n_styles: style vectors of the generator, which the weights of an encoder into W do not
            tell.

    Raises:
        CheckpointError: these are not weights of such an encoder.
    """
    with torch.device("meta"):
        if kind in _SMALL_ENCODERS:
            return _SMALL_ENCODERS[kind](SmallEncoderConfig.from_state(state))
        try:
            shape = _shape_from_state(kind, state, n_styles)
        except KeyError as error:
            raise CheckpointError(
                f"these weights are no {kind}: the key {error} is missing"
            ) from error
        return encoder_of_shape(kind, shape)


def _shape_from_state(
    kind: EncoderKind, state: Mapping[str, Tensor], n_styles: int
) -> EncoderShape:
    if kind is EncoderKind.INTO_W:
        style_dim = state["linear.weight"].shape[0]
        return EncoderShape(IRSE50.shape_from_state(state), n_styles, style_dim)
    if kind is EncoderKind.INTO_W_PLUS:
        style_dim = state["linear.weight"].shape[1]
        n_styles = state["linear.weight"].shape[0] // style_dim
        return EncoderShape(IRSE50.shape_from_state(state), n_styles, style_dim)
    backbone = _STYLE_ENCODERS[kind].shape_from_state(state)
    style_dim = state["styles.0.linear.weight"].shape[0]
    n_styles = len({key.split(".")[1] for key in state if key.startswith("styles.")})
    return EncoderShape(backbone, n_styles, style_dim)
