"""dlib's face recognition network in PyTorch: an embedding of a face's identity.

A ResNet with 29 convolutions, trained by Davis King on about 3 million faces; embeddings of one
person have a distance below 0.6. The weights are in the public domain (CC0);
``recipes/weights/import_dlib.py`` created the file.
Source: dlib's examples/dnn_face_recognition_ex.cpp.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.checkpoints.embedded import FOLDER, load_embedded
from restyle.core.faces.alignment import FFHQ, Framing

WEIGHTS = FOLDER / "dlib_recognition.safetensors"

CHIP_SIZE = 150
"""Side in pixels of the face chips that the network was trained on."""

# Measured on 3,000 teacher samples of recipes/faces64: dlib cropped chips from two colour ramps,
# and the affine map was fitted. Medians in the frame of the FFHQ quad: centre (0.501, 0.607), side
# 0.700, rotation 0.3 degrees; 5th to 95th percentiles 0.479-0.523, 0.592-0.620, 0.645-0.739,
# -2.8-3.5.
CHIP_BOX = ((0.15, 0.257), 0.70)
"""``((left, top), side)`` of dlib's chip (padding 0.25) in units of the FFHQ quad's side."""

_MEAN = (122.782, 117.001, 104.298)

# (width, residual units, first unit halves the resolution), dlib's alevel4 ... alevel0.
_LEVELS = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))


class ResidualUnit(nn.Module):
    """dlib's ``ares`` and ``ares_down``; the affine layers are folded into the convolutions."""

    def __init__(self, in_channels: int, channels: int, down: bool) -> None:
        super().__init__()
        self.down = down
        stride, padding = (2, 0) if down else (1, 1)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, h, w] -> [B, channels, h or h // 2, w or w // 2]."""
        y = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
        return F.relu(_add(x, y))


class FaceEmbedder(nn.Module):
    """The recognition network; parameters are frozen, gradients flow to the chips."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2)
        levels, in_channels = [], 32
        for channels, units, down in _LEVELS:
            widths = [in_channels] + [channels] * (units - 1)
            levels.append(
                nn.Sequential(
                    *(
                        ResidualUnit(width, channels, down and index == 0)
                        for index, width in enumerate(widths)
                    )
                )
            )
            in_channels = channels
        self.levels = nn.ModuleList(levels)
        self.head = nn.Linear(256, 128, bias=False)
        self.eval().requires_grad_(False)

    def features(self, chips: Tensor) -> list[Tensor]:
        """The activations after each of the five levels.

        Args:
            chips: [B, 3, 150, 150] RGB in [-1, 1]; other sizes from 67 pixels work as features.

        Returns:
            Tensors of 32, 64, 128, 256, 256 channels with sides 35, 17, 8, 4, 2, in the
            network's dtype.
        """
        # In float32, because bfloat16 would round pixels and means to whole grey levels.
        pixels = (chips.float() + 1) * 127.5
        x = ((pixels - _mean(chips.device)) / 256).to(self.stem.weight.dtype)
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2)
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps

    def embed(self, features: list[Tensor]) -> Tensor:
        """The embedding [B, 128] float32 for a result of :meth:`features`."""
        with torch.autocast(features[-1].device.type, enabled=False):
            pooled = features[-1].float().mean(dim=(2, 3))
            return F.linear(pooled, self.head.weight.float())

    def forward(self, chips: Tensor) -> Tensor:
        """Embed face chips.

        Args:
            chips: [B, 3, 150, 150] RGB in [-1, 1], framed as by dlib's ``get_face_chip`` with
                padding 0.25 (:func:`chips_from_crops` approximates it).

        Returns:
            [B, 128] float32, not normalised.
        """
        return self.embed(self.features(chips))


def load_face_embedder(path: str | Path | None = None) -> FaceEmbedder:
    """Load the network; the result is cached and shared, so copy it before you convert it.

    Args:
        path: safetensors with the keys of :class:`FaceEmbedder`; the embedded file by default.

    Returns:
        The network on the CPU in float32, frozen, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or holds another network.
    """
    return _load(Path(path) if path is not None else WEIGHTS)


@functools.cache
def _load(path: Path) -> FaceEmbedder:
    return load_embedded(FaceEmbedder, path, "the recognition network")


def _add(a: Tensor, b: Tensor) -> Tensor:
    """Add as dlib's ``add_prev``: smaller tensors are padded with zeros."""
    channels, height, width = (max(a.shape[i], b.shape[i]) for i in (1, 2, 3))

    def grown(x: Tensor) -> Tensor:
        missing = (width - x.shape[3], height - x.shape[2], channels - x.shape[1])
        if not any(missing):
            return x
        return F.pad(x, (0, missing[0], 0, missing[1], 0, missing[2]))

    return grown(a) + grown(b)


def chips_from_crops(images: Tensor, framing: Framing = FFHQ) -> Tensor:
    """Approximate dlib's face chip of aligned crops by one fixed box (:data:`CHIP_BOX`).

    dlib fits its chip to the landmarks, which hardly vary in aligned crops. The operation is
    differentiable. Outside of the crop, pixels are mirrored at its edge.

    Args:
        images: [B, 3, h, w] in [-1, 1], aligned with ``framing``.
        framing: the domain's crop.

    Returns:
        [B, 3, 150, 150] in [-1, 1], float32.
    """
    return resampled_box(images, framing, CHIP_BOX, CHIP_SIZE)


def resampled_box(
    images: Tensor, framing: Framing, box: tuple[tuple[float, float], float], size: int
) -> Tensor:
    """Resample a box of aligned crops.

    The operation is differentiable. Outside of the crop, pixels are mirrored at its edge.

    Args:
        images: [B, 3, h, w] in [-1, 1], aligned with ``framing``.
        framing: the domain's crop.
        box: ``((left, top), side)`` in units of the FFHQ quad's side.
        size: side of the result in pixels.

    Returns:
        [B, 3, size, size] in [-1, 1], float32.
    """
    height, width = images.shape[-2:]
    (left, top), side = box
    # Convert the box from units of the FFHQ quad to units of the crop.
    edge = 0.5 - framing.scale / 2
    left = (left - edge) / framing.scale
    top = (top - edge - framing.shift) / framing.scale
    side /= framing.scale
    with torch.inference_mode(False):
        across = _resampling(width, left * width, side * width, size, images.device)
        down = _resampling(height, top * height, side * height, size, images.device)
    with torch.autocast(images.device.type, enabled=False):
        return down @ images.float() @ across.T


@functools.cache
def _mean(device: torch.device) -> Tensor:
    """Channel means [3, 1, 1], cached by device."""
    with torch.inference_mode(False):
        return torch.tensor(_MEAN)[:, None, None].to(device)


@functools.cache
def _resampling(
    pixels: int, start: float, length: float, size: int, device: torch.device
) -> Tensor:
    """A matrix [size, pixels] that resamples the interval [start, start + length) of a row.

    The filter is a triangle: bilinear for enlargement, antialiased for reduction.
    """
    step = length / size
    centres = start + (np.arange(size) + 0.5) * step
    reach = max(step, 1.0)
    first = np.floor(centres - reach)[:, None]
    taps = first + np.arange(int(2 * reach) + 3)
    weights = np.clip(1 - np.abs(taps + 0.5 - centres[:, None]) / reach, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = taps.astype(int) % (2 * pixels)
    mirrored = np.minimum(mirrored, 2 * pixels - 1 - mirrored)
    matrix = np.zeros((size, pixels))
    np.add.at(matrix, (np.arange(size)[:, None], mirrored), weights)
    return torch.from_numpy(matrix.astype(np.float32)).to(device)
