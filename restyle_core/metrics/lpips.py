"""LPIPS v0.1 on AlexNet: a perceptual distance between images.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
(1801.03924), equation 1. Weights and their origin: ``restyle_core/weights/README.md``.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.checkpoints.embedded import FOLDER, load_embedded

WEIGHTS = FOLDER / "lpips_alex.safetensors"

MIN_SIDE = 31
"""Smallest height and width in pixels that AlexNet's third stage can process."""

_WIDTHS = (64, 192, 384, 256, 256)
# ImageNet's channel means and deviations, for images in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class LPIPS(nn.Module):
    """AlexNet's five ReLU stages, unit-normalised per position, and a weight per channel.

    All parameters are frozen; gradients flow to the images. Under autocast, or after
    ``.to(torch.bfloat16)``, only the convolutions run in low precision.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(3, 64, 11, stride=4, padding=2),
                nn.Conv2d(64, 192, 5, padding=2),
                nn.Conv2d(192, 384, 3, padding=1),
                nn.Conv2d(384, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
            ]
        )
        self.channel_weights = nn.ParameterList([nn.Parameter(torch.zeros(w)) for w in _WIDTHS])
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """The normalised feature maps of a batch; those of a fixed target can be reused.

        Args:
            images: [B, 3, h, w] in [-1, 1], RGB, at least :data:`MIN_SIDE` pixels a side.

        Returns:
            Five float32 tensors [B, C, h', w'] whose channel vectors have length 1 (or 0).

        Raises:
            ValueError: the images are too small.
        """
        if min(images.shape[-2:]) < MIN_SIDE:
            height, width = images.shape[-2:]
            raise ValueError(
                f"LPIPS needs {MIN_SIDE} pixels a side, the images are {height}x{width}"
            )
        shift, scale = _normalisation(images.device)
        x = ((images.float() - shift) / scale).to(self.channel_weights[0].dtype)
        maps = []
        for index, conv in enumerate(self.convs):
            if index in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(conv(x))
            maps.append(_unit(x))
        return maps

    def distance(self, features_a: list[Tensor], features_b: list[Tensor]) -> Tensor:
        """Distances [B] float32 between two results of :meth:`features` (equation 1)."""
        total: Tensor | float = 0.0
        for a, b, weights in zip(features_a, features_b, self.channel_weights, strict=True):
            # The spatial mean first makes the sum over channels small. Not a matmul, which autocast
            # would compute in low precision.
            total = total + ((a - b).square().mean(dim=(2, 3)) * weights.float()).sum(dim=1)
        return torch.as_tensor(total)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of two batches of images.

        Args:
            a: [B, 3, h, w] in [-1, 1], RGB.
            b: the same shape.

        Returns:
            [B] float32, 0 for equal images, about 1 for unrelated ones.
        """
        return self.distance(self.features(a), self.features(b))


def load_lpips(path: str | Path | None = None) -> LPIPS:
    """Read the metric's weights.

    Args:
        path: a safetensors file with the keys of :class:`LPIPS`; the embedded one by default.

    Returns:
        The network on the CPU in float32, frozen, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or does not fit.
    """
    return load_embedded(LPIPS, Path(path) if path is not None else WEIGHTS, "the LPIPS weights")


@functools.cache
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    """ImageNet's means and deviations [3, 1, 1], cached by device."""
    # Not buffers, because converting the module must not round them.
    with torch.inference_mode(False):
        shift, scale = torch.tensor([_SHIFT, _SCALE])[..., None, None].to(device)
    return shift, scale


def _unit(x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        # The gradient of vector_norm at zero is 0; that of a square root is NaN.
        length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return x / (length + _EPSILON)
