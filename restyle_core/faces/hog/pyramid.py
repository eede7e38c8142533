"""Geometry of dlib's pyramid: sizes of levels, boxes of windows, and which boxes are one face.

Level 0 is the photograph at twice its size, each level has 5/6 of the size of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from restyle.core.faces.hog.filters import Overlap
from restyle.kernels.hog import Part

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, all of them inside."""

CELL = 8
"""Side of a cell in pixels of its level."""

WINDOW = 10
"""Side of the detector's window in cells."""

# dlib adds levels while a side has this many pixels.
_LEAST_SIDE = 64

# Offsets of dlib's mapping from level to level, and from level 0 to the photograph.
_SHIFT = 0.3
_SHIFT_TO_PHOTO = (1.25, 0.75)


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Width and height of every level of a photograph's pyramid.

    Args:
        size: width and height of the photograph.
    """
    width, height = 2 * size[0] + 2, 2 * size[1] + 1
    sizes = [(width, height)]
    corners: tuple[int, ...] = (0, 0, width - 1, height - 1)
    while True:
        corners = tuple(_rounded((each - _SHIFT) * 5 / 6) for each in corners)
        left, top, right, bottom = corners
        if min(right - left, bottom - top) + 1 < _LEAST_SIDE:
            return sizes
        width, height = 5 * width // 6, 5 * height // 6
        sizes.append((width, height))


def faces_of(hits: np.ndarray, overlap: Overlap) -> list[tuple[Box, float, int]]:
    """Boxes of the hits that no better one overlaps.

    Args:
        hits: :data:`restyle.kernels.hog.HIT`, of any levels.
        overlap: when two boxes are one face.

    Returns:
        Box in pixels of the photograph, score and level of each, best first.
    """
    best = best_of(hits, overlap)
    return [(box_of(hit), float(hit["score"]), int(hit["level"])) for hit in hits[best]]


def best_of(hits: np.ndarray, overlap: Overlap) -> list[int]:
    """Indices of the hits that no better one overlaps, best first."""
    kept: list[int] = []
    boxes: list[Box] = []
    for index in np.argsort(-hits["score"], kind="stable"):
        box = box_on_first_level(hits[index])
        if not any(is_same(box, other, overlap) for other in boxes):
            kept.append(int(index))
            boxes.append(box)
    return kept


def box_of(hit: np.void) -> Box:
    """The box of a hit in pixels of the photograph."""
    left, top, right, bottom = (
        _rounded(each / 2 - _SHIFT_TO_PHOTO[axis % 2])
        for axis, each in enumerate(box_on_first_level(hit))
    )
    return left, top, right, bottom


def box_on_first_level(hit: np.void) -> Box:
    """The box of a hit in pixels of level 0."""
    level, x, y, _, _ = hit.item()
    corners: Iterable[float] = (_corner(x + 1), _corner(y + 1), _corner(x + 10), _corner(y + 10))
    for _ in range(level):
        corners = [each * 1.2 + _SHIFT for each in corners]
    left, top, right, bottom = map(_rounded, corners)
    return left, top, right, bottom


def enlarged(box: Box, share: float) -> Box:
    """A box with this share of its side added on every side."""
    left, top, right, bottom = box
    margin = round(share * (right - left))
    return left - margin, top - margin, right + margin, bottom + margin


def part_of_level(box: Sequence[float], level: tuple[int, int], size: tuple[int, int]) -> Part:
    """The part of a level that holds a part of the photograph, of whole cells.

    Args:
        box: left, top, right, bottom in pixels of the photograph.
        level: width and height of the level.
        size: width and height of the photograph.
    """
    begins, ends = [], []
    for axis in (0, 1):
        scale = (level[axis] - 1) / (size[axis] - 1)
        begins.append(max(math.floor(box[axis] * scale / CELL), 0) * CELL)
        ends.append(min(math.ceil(box[axis + 2] * scale) + 1, level[axis]))
    return Part(*begins, *ends)


def around_windows(hits: np.ndarray, sizes: list[tuple[int, int]], size: tuple[int, int]) -> Box:
    """The part of a photograph from which the scores of some windows follow exactly.

    Args:
        hits: the windows.
        sizes: of the levels.
        size: width and height of the photograph.

    Returns:
        Left, top, and what is behind right and bottom, in pixels of the photograph.
    """
    # Features of a window read a cell around it and gradients half a cell more, and cells at the
    # edges of a part are incomplete. Each level may begin a cell late.
    spare = 3 + int(np.ptp(hits["level"])) + 2
    low, high = [math.inf, math.inf], [0.0, 0.0]
    for level, x, y, _, _ in hits.tolist():
        for axis, cell in enumerate((x, y)):
            scale = (size[axis] - 1) / (sizes[level][axis] - 1) * CELL
            low[axis] = min(low[axis], (cell - spare) * scale)
            high[axis] = max(high[axis], (cell + WINDOW + 1 + spare) * scale)
    left, top = (max(math.floor(each), 0) for each in low)
    right, bottom = (min(math.ceil(each), side) for each, side in zip(high, size, strict=True))
    return left, top, right, bottom


def first_level_of(part: Box, size: tuple[int, int]) -> Part:
    """The part of level 0 that follows from a part of the photograph, from whole cells on.

    Args:
        part: left, top, and what is behind right and bottom, in pixels of the photograph.
        size: width and height of the photograph.
    """
    sides = level_sizes(size)[0]
    begins, ends = [], []
    for axis in (0, 1):
        # Pixels of level 0 for each of the photograph's, from its first to its last.
        scale = (sides[axis] - 1) / (size[axis] - 1)
        cells = math.ceil(part[axis] * scale / CELL)
        begins.append(cells * CELL)
        is_last = part[axis + 2] >= size[axis]
        ends.append(sides[axis] if is_last else math.floor((part[axis + 2] - 1) * scale) - 1)
    return Part(*begins, *ends)


def _corner(cell: int) -> int:
    """The middle of a cell in pixels of its level, as dlib computes it."""
    first = cell * CELL + 1
    return first + (CELL // 2 if first >= 0 else -CELL // 2)


def is_same(one: Box, other: Box, overlap: Overlap) -> bool:
    """Whether two boxes are one face."""
    common = _area(_common(one, other))
    if not common:
        return False
    # dlib divides by the box around both, not by their union.
    around = _area(_around(one, other))
    return common / around > overlap.common or common > overlap.covered * min(
        _area(one), _area(other)
    )


def _common(one: Sequence[int], other: Sequence[int]) -> Sequence[int]:
    return [*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:])]


def _around(one: Sequence[int], other: Sequence[int]) -> Sequence[int]:
    return [*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:])]


def _area(box: Sequence[int]) -> int:
    left, top, right, bottom = box
    return max(right - left + 1, 0) * max(bottom - top + 1, 0)


def _rounded(value: float) -> int:
    """Nearest integer, halves away from zero, as in C."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)
