"""pSp's encoders that read all styles from the backbone's last map (2008.00951, section 4.1).

The baselines of the paper: one vector in W for all styles, or one vector for each (W+). The first
is also e4e's encoder into W.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from restyle.core.networks.backbones import IRSE50, BackboneShape
from restyle.core.networks.generator import EqualizedLinear

_POOLED = 7
"""Side of the map that the encoder into W+ flattens."""


class LastLayerEncoder(IRSE50):
    """Base class of both: IR-SE50, and a head on its last map.

    Args:
        backbone: channels and units.
        n_styles: style vectors to predict.
        style_dim: length of a style vector.
    """

    PROGRESSIVE: ClassVar[bool] = False

    def __init__(self, backbone: BackboneShape, n_styles: int, style_dim: int) -> None:
        super().__init__(backbone)
        self.in_channels = backbone.in_channels
        self.n_styles = n_styles
        self.style_dim = style_dim
        self.progressive_stage: int | None = None

    @staticmethod
    def accepts(image_size: tuple[int, int]) -> bool:
        """Whether it takes images of this height and width; pooling takes any that leave a map."""
        return min(image_size) >= 16

    def head(self, x: Tensor) -> Tensor:
        """The last map [B, C, H, W] -> [B, n_styles, style_dim] float32."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Predict styles.

        Args:
            x: [B, in_channels, H, W] in [-1, 1].

        Returns:
            [B, n_styles, style_dim] float32: the residual to the average latent.
        """
        return self.head(self.features(x)[-1])

    def clear_differences(self) -> None:
        """Do nothing: no style is predicted as a difference to another."""


class BackboneIntoW(LastLayerEncoder):
    """One vector for all styles, from the mean of the last map."""

    def __init__(self, backbone: BackboneShape, n_styles: int, style_dim: int) -> None:
        super().__init__(backbone, n_styles, style_dim)
        self.linear = EqualizedLinear(backbone.widths[-1], style_dim)

    def head(self, x: Tensor) -> Tensor:
        """The last map [B, C, H, W] -> [B, n_styles, style_dim] float32."""
        vector: Tensor = self.linear(x.float().mean(dim=(2, 3)))
        return vector[:, None].expand(-1, self.n_styles, -1)


class BackboneIntoWPlus(LastLayerEncoder):
    """A vector for each style, from the last map at 7x7."""

    def __init__(self, backbone: BackboneShape, n_styles: int, style_dim: int) -> None:
        super().__init__(backbone, n_styles, style_dim)
        channels = backbone.widths[-1]
        self.output_layer_2 = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.AdaptiveAvgPool2d((_POOLED, _POOLED)),
            nn.Flatten(),
            nn.Linear(channels * _POOLED**2, style_dim),
        )
        self.linear = EqualizedLinear(style_dim, style_dim * n_styles)

    def head(self, x: Tensor) -> Tensor:
        """The last map [B, C, H, W] -> [B, n_styles, style_dim] float32."""
        with torch.autocast(x.device.type, enabled=False):
            vectors: Tensor = self.linear(self.output_layer_2(x.float()))
        return vectors.reshape(len(x), self.n_styles, self.style_dim)
