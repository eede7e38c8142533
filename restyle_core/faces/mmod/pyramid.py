"""The image pyramid of dlib's convolutional detector: all its levels side by side in one image.

Each level has five sixths of the sides of the one before it. The first levels stand below each
other; the others return upwards along the right side. Scores near a level's edge depend on its
neighbours and on the padding between them, so this arrangement is part of the detector.
Source: dlib/image_transforms/image_pyramid.h, dlib/dnn/input.h.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core.faces.mmod.network import CHANNELS, GROUP

_RATE = 5 / 6
_UP = 6 / 5
_PADDING = 10
_OUTER_PADDING = 11
_MIN_HEIGHT = 5

# Where a level's first pixel lies in the level before it, as dlib defines it for boxes.
_SHIFT = 0.3

_MEAN = (122.782, 117.001, 104.298)
_SCALE = 256.0


@dataclass(frozen=True)
class Level:
    """A level's place in the tile, in pixels.

    Attributes:
        top, left: its first pixel.
        height, width: its size.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """Its last row."""
        return self.top + self.height - 1

    @property
    def right(self) -> int:
        """Its last column."""
        return self.left + self.width - 1

    def distance(self, row: float, column: float) -> float:
        """Distance of a point from this rectangle; 0 inside."""
        nearest_row = min(max(row, self.top), self.bottom)
        nearest_column = min(max(column, self.left), self.right)
        return math.hypot(row - nearest_row, column - nearest_column)


@dataclass(frozen=True)
class TiledPyramid:
    """Arrangement of the levels of an image in a tile.

    Attributes:
        height, width: size of the tile in pixels.
        levels: largest first; the smallest of the image's levels are left out if they do not fit.
    """

    height: int
    width: int
    levels: tuple[Level, ...]

    def level_at(self, row: int, column: int) -> int:
        """Index of the level that a point of the tile belongs to: the nearest one."""
        return min(
            range(len(self.levels)), key=lambda index: self.levels[index].distance(row, column)
        )

    def box_in_image(self, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
        """Convert a box of the tile to whole pixels of the image.

        Args:
            box: left, top, right, bottom; the pixel in its middle decides about the level.
        """
        left, top, right, bottom = (_round(value) for value in box)
        index = self.level_at(_middle(top, bottom), _middle(left, right))
        level = self.levels[index]
        offsets = (level.left, level.top, level.left, level.top)
        return tuple(  # type: ignore[return-value]
            _round(_up(value - offset, index)) for value, offset in zip(box, offsets, strict=True)
        )


def _up(value: float, levels: int) -> float:
    for _ in range(levels):
        value = value * _UP + _SHIFT
    return value


def _round(value: float) -> int:
    """Round to the nearest integer, halves away from zero, as C does."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _middle(first: int, last: int) -> int:
    return (first + last + 1) // 2


@functools.lru_cache(maxsize=64)
def arrange(height: int, width: int) -> TiledPyramid:
    """Arrange the levels of an image.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
    """
    sizes = [(height, width)]
    while True:
        smaller = (math.floor(_RATE * sizes[-1][0]), math.floor(_RATE * sizes[-1][1]))
        if not smaller[1] or smaller[0] < _MIN_HEIGHT:
            break
        sizes.append(smaller)
    down = _levels_below_each_other(sizes)
    tile_height = sum(size[0] + _PADDING for size in sizes[:down]) - _PADDING
    levels: list[Level] = []
    top = _OUTER_PADDING
    for size in sizes[:down]:
        levels.append(Level(top, _OUTER_PADDING, *size))
        top += size[0] + _PADDING
    bottom = top - _PADDING - 1
    for size in sizes[down:]:
        level = Level(bottom - size[0] + 1, levels[0].right - size[1] + 1, *size)
        # No level covers the image itself.
        if level.top <= levels[0].bottom and level.left <= levels[0].right:
            break
        levels.append(level)
        bottom -= size[0] + _PADDING
    return TiledPyramid(tile_height + 2 * _OUTER_PADDING, width + 2 * _OUTER_PADDING, tuple(levels))


def _levels_below_each_other(sizes: list[tuple[int, int]]) -> int:
    """Number of levels until the rest fits beside them."""
    image_height, image_width = sizes[0]
    total = sum(size[0] + _PADDING for size in sizes) - 2 * _PADDING
    height, width_before = 0, 0
    for index, size in enumerate(sizes):
        fits = size[1] <= image_width - width_before - _PADDING
        if fits and 2 * (height - image_height) >= total - image_height:
            return index
        height += size[0] + _PADDING
        width_before = size[1]
    return len(sizes)


class Tile:
    """The levels of images where :func:`arrange` puts them, computed in float32.

    The tile as a whole would take 52 MB for a megapixel. Levels take half of that: the first is
    kept in eight bits, the others have three channels and no padding.

    Args:
        images: [B, H, W, 3] uint8 RGB, at least 8 pixels wide and high.

    Attributes:
        pyramid: the arrangement.
    """

    def __init__(self, images: Tensor) -> None:
        self.pyramid = arrange(*images.shape[1:3])
        self._images = images
        level = _normalized(images).permute(0, 3, 1, 2)
        self._smaller: list[Tensor] = []
        for place in self.pyramid.levels[1:]:
            size = (place.height, place.width)
            level = F.interpolate(level, size, mode="bilinear", align_corners=True)
            self._smaller.append(level.permute(0, 2, 3, 1))

    def pixels(self, rows: slice, columns: slice | None = None, index: int | None = None) -> Tensor:
        """Compute a part of the tile.

        Args:
            rows: with a start and a stop inside of the tile.
            columns: the same; all when None.
            index: of the image; all when None.

        Returns:
            The network's input [B, h, w, 4] float32, see
            :meth:`restyle.core.faces.mmod.network.MmodNetwork.forward`.
        """
        columns = columns or slice(0, self.pyramid.width)
        batch = slice(None) if index is None else slice(index, index + 1)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        shape = (len(self._images[batch]), height, -(-width // GROUP) * GROUP, CHANNELS)
        part = torch.zeros(shape, device=self._images.device)
        for number, place in enumerate(self.pyramid.levels):
            top, bottom = max(rows.start, place.top), min(rows.stop, place.bottom + 1)
            left, right = max(columns.start, place.left), min(columns.stop, place.right + 1)
            if top >= bottom or left >= right:
                continue
            level = self._smaller[number - 1] if number else self._images
            inside = (
                slice(top - place.top, bottom - place.top),
                slice(left - place.left, right - place.left),
            )
            shown = level[(batch, *inside)]
            part[
                :,
                top - rows.start : bottom - rows.start,
                left - columns.start : right - columns.start,
                : shown.shape[3],
            ] = shown if number else _normalized(shown)
        return part


def _normalized(pixels: Tensor) -> Tensor:
    return torch.sub(pixels, torch.tensor(_MEAN, device=pixels.device)).div_(_SCALE)
