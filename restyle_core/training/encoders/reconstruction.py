"""Losses between a reconstruction and its target, and the frozen networks they need."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core.faces.alignment import Framing
from restyle.core.faces.recognition import chips_from_crops, load_face_embedder
from restyle.core.metrics.lpips import load_lpips
from restyle.core.training.encoders.spec import EncoderLosses


class LossNetworks:
    """Frozen networks of the perceptual and the identity loss."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.lpips = load_lpips()
        # A copy, because the cached network is shared. channels_last cuts the time of its bfloat16
        # convolutions and pooling by a third, forward and backward.
        self.embedder = copy.deepcopy(load_face_embedder())
        self.embedder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def perceptual(self, images: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """LPIPS maps of [B, 3, h, w]."""
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return self.lpips.features(images)

    def identity(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Face embeddings [B, 128] of [B, 3, h, w]."""
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            chips = chips_from_crops(images, self.framing)
            embedding: Tensor = self.embedder(chips.contiguous(memory_format=torch.channels_last))
        return embedding


class ReconstructionLoss:
    """Weighted losses between reconstructions and one target, whose features are computed once.

    Args:
        weights: of the losses.
        target: [B, 3, h, w] in [-1, 1].
        networks: frozen networks of the losses.
        dtype: of the networks' activations.
    """

    def __init__(
        self, weights: EncoderLosses, target: Tensor, networks: LossNetworks, dtype: torch.dtype
    ) -> None:
        self.weights, self.target, self.networks, self.dtype = weights, target, networks, dtype
        with torch.no_grad():
            self.perceptual = networks.perceptual(target, dtype) if weights.lpips else None
            self.identity = networks.identity(target, dtype) if weights.identity else None

    def __call__(self, image: Tensor, *, with_identity: bool) -> dict[str, Tensor]:
        """Losses of one step's reconstruction [B, 3, h, w]."""
        weights = self.weights
        losses = {"l2": weights.l2 * F.mse_loss(image, self.target)}
        if self.perceptual is not None:
            features = self.networks.perceptual(image, self.dtype)
            distance = self.networks.lpips.distance(features, self.perceptual).mean()
            losses["lpips"] = weights.lpips * distance
        if with_identity and self.identity is not None:
            embedding = self.networks.identity(image, self.dtype)
            angle = 1 - F.cosine_similarity(embedding, self.identity).mean()
            losses["identity"] = weights.identity / weights.identity_share * angle
        return losses
