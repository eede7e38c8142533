"""Discriminator heads on frozen features (Sauer et al., "Projected GANs", 2111.01007).

A discriminator that reads a trained network's feature maps learns in minutes what one that reads
pixels learns in days: which textures and shapes do not occur in real images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class FeatureHeads(nn.Module):
    """One small spectrally normalised network per feature map; each judges every position.

    Args:
        channels: of the feature maps, in order.
        width: of the heads.
    """

    def __init__(self, channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(count, width, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, 1, 1)),
            )
            for count in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps [B, C, h, w] -> logits [B, 1, h, w]; above zero means real."""
        return [head(map_) for head, map_ in zip(self.heads, features, strict=True)]

    def discriminator_loss(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Hinge loss of the heads; ``fake`` is detached here."""
        real_logits, fake_logits = self(real), self([map_.detach() for map_ in fake])
        losses = [
            F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
            for on_real, on_fake in zip(real_logits, fake_logits, strict=True)
        ]
        return torch.stack([loss.float() for loss in losses]).mean()

    def generator_loss(self, fake: Sequence[Tensor]) -> Tensor:
        """Hinge loss of the generator; gradients reach ``fake`` only, never the heads."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        logits = self(fake)
        for parameter in self.parameters():
            parameter.requires_grad_(True)
        return -torch.stack([logit.float().mean() for logit in logits]).mean()
