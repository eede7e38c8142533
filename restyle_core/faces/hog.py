"""dlib's frontal detector on histograms of oriented gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

# The detector's time and memory grow with the pixels of a doubled image. Images of more pixels than
# a square of this side are first searched in a reduced copy, in one piece; landmarks are always
# fitted at full resolution.
_MAX_DETECTION_SIDE = 2048

# Most pixels of the second search, piece by piece, for faces that are too small in that copy. At a
# third of a second per megapixel it takes a quarter of the time that an image may take.
_MAX_SEARCHED_PIXELS = 48_000_000

# Side in pixels below which the detector may miss a face, with a margin: its window is 80 pixels
# wide, which is 40 in the image that it doubles.
_MIN_FACE_SIDE = 80

# Detections that overlap by this share of the smaller box are one face.
_SAME_FACE = 0.5

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


def find_faces(image: Image.Image, *, exact: bool, small: bool) -> list[tuple[Box, float]]:
    """Find faces of 40 pixels and more.

    Args:
        image: an upright RGB photo.
        exact: search the whole image at twice its size, in memory that grows with it. Otherwise a
            reduced copy of a large image is searched first, and then the image piece by piece.
        small: also look for faces that are too small for the copy when it shows larger ones.

    Returns:
        Boxes and scores, in no order.
    """
    whole = (0, 0, *image.size)
    coarse = max(1.0, math.sqrt(image.width * image.height) / _MAX_DETECTION_SIDE)
    detected = _detect(image, 1.0 if exact else coarse, whole)
    if not exact and coarse > 1.0 and (small or not detected):
        for part, fine in _pieces(image.size, coarse):
            for box, score in _detect(image, fine, part):
                if not any(_is_same(box, other) for other, _ in detected):
                    detected.append((box, score))
    return detected


def _detect(image: Image.Image, reduction: float, part: Box) -> list[tuple[Box, float]]:
    """Boxes, in pixels of the image, and scores of the faces in a part of it."""
    left, top, right, bottom = part
    searched = image if part == (0, 0, *image.size) else image.crop(part)
    if reduction > 1.0:
        # Rounded down, so that no copy is larger than one in one piece may be.
        size = (int((right - left) / reduction), int((bottom - top) / reduction))
        if not all(size):
            return []
        searched = searched.resize(size, Image.Resampling.BOX)
    boxes, scores, _ = _detector().run(np.asarray(searched), 1, 0.0)
    return [
        (
            (
                left + round(box.left() * reduction),
                top + round(box.top() * reduction),
                left + round(box.right() * reduction),
                top + round(box.bottom() * reduction),
            ),
            float(score),
        )
        for box, score in zip(boxes, scores, strict=True)
    ]


def _pieces(size: tuple[int, int], coarse: float) -> Iterator[tuple[Box, float]]:
    """Yield parts that together hold every face too small for the copy, with their reductions."""
    width, height = size
    fine = max(1.0, math.sqrt(width * height / _MAX_SEARCHED_PIXELS))
    side = round(_MAX_DETECTION_SIDE * fine)
    # Pieces overlap, so that every face missed in the copy lies wholly in one of them.
    step = max(side // 2, side - math.ceil(_MIN_FACE_SIDE * coarse))
    for top in _starts(height, side, step):
        for left in _starts(width, side, step):
            yield (left, top, min(left + side, width), min(top + side, height)), fine


def _starts(length: int, side: int, step: int) -> list[int]:
    """Offsets of the pieces along one axis; the last piece ends at ``length``."""
    return [*range(0, max(length - side, 0), step), max(length - side, 0)]


def _is_same(one: Box, other: Box) -> bool:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return False
    return width * height > _SAME_FACE * min(_area(one), _area(other))


@functools.cache
def _detector() -> Any:
    import dlib

    return dlib.get_frontal_face_detector()


def _area(box: Iterable[int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
