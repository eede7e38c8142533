"""dlib's convolutional face detector: boxes and scores of an image, in any precision the same."""

from __future__ import annotations

import copy
import functools
import heapq
from typing import NamedTuple

import torch
from torch import Tensor

from restyle.core.devices.hardware import choose_dtype, convolving
from restyle.core.faces.mmod.network import (
    CELL,
    FIRST_CENTRE,
    REACH,
    WINDOW,
    MmodNetwork,
    load_mmod_network,
    window_pixels,
)
from restyle.core.faces.mmod.pyramid import Tile

Box = tuple[int, int, int, int]

# Boxes whose intersection is a larger share of the rectangle around both are one face. From the
# options of the trained detector; dlib's ``mmod_options::overlaps_nms``.
_OVERLAP = 0.3382761351109955

# Largest difference between a score in bfloat16 and in float32, with a margin: the largest among
# 530,000 windows of 33 photographs, textures and noise was 0.05.
_BF16_ERROR = 0.12

# Half the side, in cells, of the square whose scores are settled at once.
_SETTLED = 3


class MmodFace(NamedTuple):
    """A face that the detector found.

    Attributes:
        box: left, top, right, bottom in pixels, the last ones included; a square that covers more
            of the head than the frontal detector's.
        score: the detector's confidence; above 0 by default, about 1 for clear faces.
    """

    box: Box
    score: float


def find_mmod_faces(
    images: Tensor, threshold: float = 0.0, dtype: torch.dtype | None = None
) -> list[list[MmodFace]]:
    """Detect faces as dlib's ``cnn_face_detection_model_v1`` does.

    Processors with products in bfloat16 score all windows with them, and settle those windows in
    float32 that decide about a face; so results are those of float32.

    Args:
        images: [B, H, W, 3] uint8 RGB on the device that computes.
        threshold: faces have higher scores.
        dtype: of the first scores; the fastest by default.

    Returns:
        The faces of each image, highest score first. Boxes may reach outside of the image.
    """
    if dtype is None:
        dtype = _fastest_dtype(images.device)
    exact = _network(images.device, torch.float32)
    with torch.inference_mode(), convolving(tf32=False):
        tile = Tile(images)
        sides = tile.pyramid.height, tile.pyramid.width
        scores = _network(images.device, dtype).score_bands(tile.pixels, *sides).cpu()
        error = 0.0 if dtype == torch.float32 else _BF16_ERROR
        return [
            _Search(exact, tile, index, scores[index], error).faces(threshold)
            for index in range(len(images))
        ]


class _Search:
    """Non-maximum suppression that settles no more scores than it needs.

    A score that is not settled yet stands for its largest possible value; the window with the
    highest is settled, or if it is already, taken as a face. That is the order of settled scores.
    """

    def __init__(
        self, exact: MmodNetwork, tile: Tile, index: int, scores: Tensor, error: float
    ) -> None:
        self._exact = exact
        self._tile = tile
        self._index = index
        self._scores = scores + error
        self._settled = torch.full(scores.shape, error == 0, dtype=torch.bool)

    def faces(self, threshold: float) -> list[MmodFace]:
        rows, columns = (self._scores > threshold).nonzero(as_tuple=True)
        highest = [
            (-float(self._scores[row, column]), row, column)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        heapq.heapify(highest)
        found: list[MmodFace] = []
        while highest:
            negative, row, column = heapq.heappop(highest)
            box = self._box(row, column)
            if any(_is_same(box, face.box) for face in found):
                continue
            if not self._settled[row, column]:
                self._settle(row, column)
            score = float(self._scores[row, column])
            if score == -negative:
                found.append(MmodFace(box, score))
            elif score > threshold:
                heapq.heappush(highest, (-score, row, column))
        return found

    def _settle(self, row: int, column: int) -> None:
        """Replace the scores around one by those of float32."""
        rows, columns = self._scores.shape
        inner = [
            (max(place - _SETTLED, 0), min(place + _SETTLED + 1, count))
            for place, count in ((row, rows), (column, columns))
        ]
        outer = [
            (max(first - REACH, 0), min(last + REACH, count))
            for (first, last), count in zip(inner, (rows, columns), strict=True)
        ]
        down, across = (window_pixels(*cells) for cells in outer)
        pixels = self._tile.pixels(down, across, self._index)
        scores = self._exact(pixels, across.stop - across.start)[0].cpu()
        inside = tuple(slice(*cells) for cells in inner)
        within = tuple(
            slice(first - start, last - start)
            for (first, last), (start, _) in zip(inner, outer, strict=True)
        )
        self._scores[inside] = scores[within]
        self._settled[inside] = True

    def _box(self, row: int, column: int) -> Box:
        half = (WINDOW - 1) / 2
        x, y = (CELL * place + FIRST_CENTRE for place in (column, row))
        return self._tile.pyramid.box_in_image((x - half, y - half, x + half, y + half))


def _is_same(one: Box, other: Box) -> bool:
    """Whether two boxes, whose last pixels are included, overlap so far that they are one face."""
    across = min(one[2], other[2]) - max(one[0], other[0]) + 1
    down = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if across <= 0 or down <= 0:
        return False
    width = max(one[2], other[2]) - min(one[0], other[0]) + 1
    height = max(one[3], other[3]) - min(one[1], other[1]) + 1
    return across * down > _OVERLAP * width * height


def _fastest_dtype(device: torch.device) -> torch.dtype:
    # A GPU scores in float32 about as fast as it reads the pixels.
    return torch.float32 if device.type == "cuda" else choose_dtype("auto", device)[0]


@functools.cache
def _network(device: torch.device, dtype: torch.dtype) -> MmodNetwork:
    with torch.inference_mode(False):
        return copy.deepcopy(load_mmod_network()).to(device, dtype)
