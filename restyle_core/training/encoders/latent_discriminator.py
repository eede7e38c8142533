"""The latent discriminator of e4e (Tov et al., 2102.02766, section 4.2).

The discriminator separates w of the mapping network from style vectors that an encoder predicts.
It classifies each style vector on its own, so that each of them, not only their mean, stays in W.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.training.encoders.spec import EditableLosses

_SLOPE = 0.2
_BETAS = (0.9, 0.999)


class LatentDiscriminator(nn.Module):
    """Four linear layers: w [N, style_dim] -> logit [N], above zero for w of the generator."""

    def __init__(self, style_dim: int = 512, depth: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth - 1):
            layers += [nn.Linear(style_dim, style_dim), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Linear(style_dim, 1))

    def forward(self, w: Tensor) -> Tensor:
        """W [N, style_dim] -> [N]."""
        logits: Tensor = self.layers(w)[:, 0]
        return logits


class LatentPool(nn.Module):
    """Predicted style vectors of earlier steps, mixed into later batches (1612.07828, section 2.3).

    Args:
        size: capacity in vectors; 0 keeps none.
        style_dim: length of a vector.
    """

    kept: Tensor
    count: Tensor

    def __init__(self, size: int, style_dim: int = 512) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(size, style_dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def exchange(self, w: Tensor) -> Tensor:
        """Replace a random half of the rows by older ones, and keep the replaced rows.

        Args:
            w: [N, style_dim]; rows that fill free places are kept and returned as well.

        Returns:
            [N, style_dim].
        """
        size, count = len(self.kept), int(self.count)
        free = min(size - count, len(w))
        self.kept[count : count + free] = w[:free]
        self.count += free
        later = w[free:]
        swapped = (torch.rand(len(later)) < 0.5).nonzero()[:, 0][:size]
        places = torch.randperm(size)[: len(swapped)]
        result = w.clone()
        result[free + swapped] = self.kept[places]
        self.kept[places] = later[swapped]
        return result


class LatentAdversary:
    """A latent discriminator with its optimizer and pool, trained together with an encoder.

    Args:
        spec: weights and rates.
        style_dim: length of a w.
    """

    def __init__(self, spec: EditableLosses, style_dim: int) -> None:
        self.spec = spec
        self.network = LatentDiscriminator(style_dim)
        self.pool = LatentPool(spec.pool, style_dim)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), spec.discriminator_lr, _BETAS, fused=True
        )

    def parts(self) -> dict[str, Any]:
        """Its parts by their name in a checkpoint."""
        return {
            "discriminator": self.network,
            "discriminator_pool": self.pool,
            "discriminator_optimizer": self.optimizer,
        }

    def encoder_loss(self, styles: Tensor) -> Tensor:
        """Non-saturating adversarial loss of the encoder; gradients reach ``styles`` only.

        Args:
            styles: [B, n, style_dim].
        """
        self.network.requires_grad_(False)
        loss = F.softplus(-self.network(styles.flatten(0, 1))).mean()
        self.network.requires_grad_(True)
        return loss

    def update(self, real: Tensor, styles: Tensor, step: int) -> dict[str, Tensor]:
        """Train the discriminator once.

        Args:
            real: [N, style_dim], w of the mapping network.
            styles: [B, n, style_dim], of the encoder, without gradient.
            step: number of the batch; R1 is computed every ``r1_every`` steps.

        Returns:
            The losses by name.
        """
        fake = self.pool.exchange(styles.flatten(0, 1))
        loss = F.softplus(-self.network(real)).mean() + F.softplus(self.network(fake)).mean()
        losses = {"discriminator": loss.detach()}
        if self.spec.r1 and step % self.spec.r1_every == 0:
            penalty = gradient_penalty(self.network, real)
            loss = loss + self.spec.r1 / 2 * self.spec.r1_every * penalty
            losses["r1"] = penalty.detach()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses


@torch.enable_grad()
def gradient_penalty(network: nn.Module, real: Tensor) -> Tensor:
    """R1 (1801.04406): mean squared norm of the logit's gradient at real samples."""
    real = real.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(network(real).sum(), real, create_graph=True)
    return slope.square().sum(dim=1).mean()
