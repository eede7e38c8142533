"""The network of dlib's convolutional face detector.

Seven convolutions: three halve the resolution, four score 80 x 80 windows at every eighth pixel.
The weights are in the public domain (CC0); ``recipes/weights/import_dlib.py`` created the file.
Source: dlib's examples/dnn_mmod_face_detection_ex.cpp.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.checkpoints.embedded import FOLDER, load_embedded

WEIGHTS = FOLDER / "dlib_face_detector.safetensors"

WINDOW = 80
"""Side in pixels of the square that a score is about."""

CELL = 8
"""Distance in pixels between neighbouring scores."""

FIRST_CENTRE = 14
"""Row and column of the pixel in the middle of the first score's window."""

REACH = 10
"""Cells on each side whose features a score depends on."""

# (input channels, channels, kernel, stride, padding); an affine layer is folded into all but the
# last, and a ReLU follows all but the last.
_LAYERS = (
    (3, 16, 5, 2, 0),
    (16, 32, 5, 2, 0),
    (32, 32, 5, 2, 0),
    (32, 45, 5, 1, 2),
    (45, 45, 5, 1, 2),
    (45, 45, 5, 1, 2),
    (45, 1, 9, 1, 4),
)

# The stride-2 layers, each with padding 0 and a 5 x 5 kernel.
_STEM = 3

# Pixels that one row of cells depends on.
_CELL_FIELD = 29

# Rows of cells whose first layers are computed at once. Their activations take a few megabytes:
# they stay in the cache, and the memory does not grow with the image.
_BAND = 32

CHANNELS = 4
"""Channels of the network's input: red, green, blue and zero, so that pixels can be grouped."""

GROUP = 4
"""The width of the network's input is a multiple of this number of pixels."""


class MmodNetwork(nn.Module):
    """The seven convolutions; parameters are frozen."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(before, channels, kernel, stride, padding)
            for before, channels, kernel, stride, padding in _LAYERS
        ]
        for layer in layers:
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        self.layers = nn.ModuleList(layers)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor, width: int) -> Tensor:
        """Score every window of a batch of images.

        Args:
            pixels: [B, H, W, 4] float32, contiguous; ``(rgb - mean) / 256`` and a zero, with ``W``
                a multiple of :data:`GROUP` and both sides at least 32.
            width: of the images in pixels; columns from there on only fill the last group.

        Returns:
            [B, h, w] float32. Entry (r, c) is the score of the window around the pixel
            ``(8 r + 14, 8 c + 14)``; positive for faces.
        """
        return self._scores(self._stem(pixels, *_grouped(self.layers[0]))[..., : cells(width)])

    def score_bands(self, pixels: Callable[[slice], Tensor], height: int, width: int) -> Tensor:
        """Score every window of images, a band of which exists at a time.

        Args:
            pixels: computes rows of the images, as :meth:`forward` takes them.
            height: of the images.
            width: of the images.

        Returns:
            As :meth:`forward` of the whole images.
        """
        rows = cells(height)
        grouped = _grouped(self.layers[0])
        bands = [
            self._stem(pixels(window_pixels(first, min(first + _BAND, rows))), *grouped)
            for first in range(0, rows, _BAND)
        ]
        return self._scores(torch.cat(bands, dim=2)[..., : cells(width)])

    def _stem(self, pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        batch, height, width, _ = pixels.shape
        # A view in the memory format channels-last: pixels become channels.
        groups = pixels.reshape(batch, height, width // GROUP, GROUP * CHANNELS)
        x = F.conv2d(groups.permute(0, 3, 1, 2).to(weight.dtype), weight, bias, (2, 1))
        # The group's outputs become columns again.
        x = x.permute(0, 2, 3, 1).reshape(batch, x.shape[2], -1, _LAYERS[0][1])
        x = F.relu(x.permute(0, 3, 1, 2))
        for layer in self.layers[1:_STEM]:
            x = F.relu(layer(x))
        return x

    def _scores(self, x: Tensor) -> Tensor:
        """The layers after the stem.

        The last is nine kernels of one column, because it has a single output channel.
        """
        for layer in self.layers[_STEM:-1]:
            x = F.relu(layer(x))
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)  # noqa: S101 (tells mypy what the constructor built)
        assert last.bias is not None  # noqa: S101
        columns = last.weight[0].permute(2, 0, 1)[..., None]
        width, side = x.shape[3], last.kernel_size[0]
        partial = F.pad(F.conv2d(x, columns, None, 1, (side // 2, 0)), (side // 2, side // 2))
        shifted = [partial[:, k, :, k : k + width].float() for k in range(side)]
        return torch.stack(shifted).sum(dim=0) + last.bias.float()


def cells(pixels: int) -> int:
    """Number of scores along a side of an image."""
    for _, _, kernel, stride, _ in _LAYERS[:_STEM]:
        pixels = (pixels - kernel) // stride + 1
    return pixels


def window_pixels(first: int, last: int) -> slice:
    """The pixels that the features of a range of cells depend on, along one axis."""
    return slice(first * CELL, (last - 1) * CELL + _CELL_FIELD)


def _grouped(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """The first layer for groups of four pixels, which have two outputs.

    Three input channels use a tenth of a processor's vectors; sixteen fill them, and the zeros
    among the weights cost less than that.
    """
    assert isinstance(layer, nn.Conv2d)  # noqa: S101 (tells mypy what the constructor built)
    assert layer.bias is not None  # noqa: S101
    channels, colours, side, _ = layer.weight.shape
    outputs = GROUP // 2
    taps = -(-(side + 2 * (outputs - 1)) // GROUP)
    weight = layer.weight.new_zeros(outputs, channels, GROUP, CHANNELS, side, taps)
    for output in range(outputs):
        for column in range(side):
            tap, pixel = divmod(2 * output + column, GROUP)
            weight[output, :, pixel, :colours, :, tap] = layer.weight[..., column]
    weight = weight.reshape(outputs * channels, GROUP * CHANNELS, side, taps)
    return weight.contiguous(memory_format=torch.channels_last), layer.bias.repeat(outputs)


def load_mmod_network(path: str | Path | None = None) -> MmodNetwork:
    """Load the network; the result is cached and shared, so copy it before you convert it.

    Args:
        path: safetensors with the keys of :class:`MmodNetwork`; the embedded file by default.

    Returns:
        The network on the CPU in float32, frozen, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or holds another network.
    """
    return _load(Path(path) if path is not None else WEIGHTS)


@functools.cache
def _load(path: Path) -> MmodNetwork:
    return load_embedded(MmodNetwork, path, "the face detector")
