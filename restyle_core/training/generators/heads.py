"""Discriminator heads on frozen features (Sauer et al., "Projected GANs", 2111.01007).

Discriminators on feature maps of a trained network converge far sooner than discriminators on
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class FeatureHeads(nn.Module):
    """One small spectrally normalised network per feature map, with a logit for each position.

    Args:
        examples: feature maps [B, C, h, w] of real images. They define the number of channels and
            the scale of each input, since a spectrally normalised head needs inputs of unit scale.
        width: channels of the heads.
    """

    scales: Tensor

    def __init__(self, examples: Sequence[Tensor], width: int = 64) -> None:
        super().__init__()
        scales = [1 / map_.float().square().mean().sqrt() for map_ in examples]
        self.register_buffer("scales", torch.stack(scales))
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(map_.shape[1], width, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, 1, 1)),
            )
            for map_ in examples
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps [B, C, h, w] -> logits [B, 1, h, w]; above zero means real."""
        return [
            head(map_ * scale.to(map_.dtype))
            for head, map_, scale in zip(self.heads, features, self.scales, strict=True)
        ]

    def discriminator_loss(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Hinge loss of the heads; ``fake`` is detached here."""
        real_logits, fake_logits = self(real), self([map_.detach() for map_ in fake])
        losses = [
            F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
            for on_real, on_fake in zip(real_logits, fake_logits, strict=True)
        ]
        return torch.stack([loss.float() for loss in losses]).mean()

    def generator_loss(self, fake: Sequence[Tensor]) -> Tensor:
        """Hinge loss of the generator; gradients reach only ``fake``, not the heads."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        logits = self(fake)
        for parameter in self.parameters():
            parameter.requires_grad_(True)
        return -torch.stack([logit.float().mean() for logit in logits]).mean()
