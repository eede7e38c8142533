"""dlib's convolutional detector on photographs of any size, with boxes for the 68-point predictor.

The detector scores all windows of 80 pixels and more. The photograph is searched in a copy of a
megapixel, which shows most faces, and then piece by piece in a larger one, in memory that does not
grow with the photograph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

Square = tuple[Box, float]
"""A detection: left, top, right, bottom in pixels, the last ones included, and its score."""

Search = Callable[[npt.NDArray[np.uint8], float], list[Square]]
"""Searches pixels [h, w, 3] for faces of more than a score."""

_FloatBox = tuple[float, float, float, float]

# Least score of a face. In hard photographs 66 of 69 faces have more, all of those above 0.7; what
# was no face had 0.08 (recipes/detection/table.py).
_LEAST_SCORE = 0.2

# Side in pixels at which a face of the frontal detector is looked at again, and its least score
# there. 48 faces with less than 1.5 of the frontal detector had 0.73 and more; 10 places that were
# no face had -0.65 and less (recipes/detection/scores.py).
_CONFIRMED_SIDE = 100
_CONFIRMED_SCORE = 0.0

LOWEST = -2.0
"""Score that is as low as any needs to be told."""

# Pixels of the first copy and of the second. At a quarter of a second per megapixel the first takes
# less than the frontal detector takes before it.
_COARSE = 2**20
_FINE = 4 * 2**20

# Photographs are enlarged at most so far, as the frontal detector does.
_ENLARGED = 2.0

# The second copy is searched if it is larger than the first by this factor.
_WORTH_IT = 1.2

# Overlap of pieces in pixels of the second copy: twice the window, because the first copy, of half
# its side, shows the faces that are larger.
_OVERLAP = 160

# From the detector's square to the frontal detector's: shift of the centre and ratio of the sides,
# in units of the square's side. Medians of 72 portraits, half of them mirrored; half of the
# residuals are below 0.04, 0.04 and 0.18, and landmarks then lie 0.010 distances between the eyes
# from those of the frontal detector's own box in the median (recipes/detection/boxes.py).
_SHIFT = (0.054, 0.060)
_RATIO = 1.126

# Detections that overlap by this share of the smaller box are one face.
_SAME_FACE = 0.5


def find_faces(image: Image.Image, *, small: bool) -> list[tuple[Box, float]]:
    """Find faces, also turned, dark and partly hidden ones.

    Args:
        image: an upright RGB photograph.
        small: look for faces that are too small for the first copy, even when it shows larger ones.

    Returns:
        Boxes as the frontal detector's, and scores, about 1 for clear faces; in no order.
    """
    area = image.width * image.height
    coarse, fine = (min(_ENLARGED, math.sqrt(most / area)) for most in (_COARSE, _FINE))
    found = _search(image, coarse, (0, 0, *image.size))
    if fine > _WORTH_IT * coarse and (small or not found):
        for part in _pieces(image.size, fine):
            found += [
                face
                for face in _search(image, fine, part)
                if not any(_is_same(face[0], other) for other, _ in found)
            ]
    return [(_frontal(box), score) for box, score in found]


def confirms(image: Image.Image, box: Box) -> bool:
    """Whether the network sees a face where the frontal detector found one.

    Args:
        image: an upright RGB photograph.
        box: the frontal detector's.
    """
    return score_at(image, box, _CONFIRMED_SIDE) > _CONFIRMED_SCORE


def score_at(image: Image.Image, box: Box, side: float) -> float:
    """The network's largest score of a face in a box, seen at a size.

    Args:
        image: an upright RGB photograph.
        box: of a face, as the frontal detector's.
        side: of the box in the copy that is searched, in pixels.

    Returns:
        :data:`LOWEST` if it has no more.
    """
    left, top, right, bottom = box
    around = right - left
    part = (
        max(left - around, 0),
        max(top - around, 0),
        min(right + around, image.width),
        min(bottom + around, image.height),
    )
    found = _search(image, side / around, part, LOWEST)
    return max((score for each, score in found if _is_same(_frontal(each), box)), default=LOWEST)


def search_here(pixels: npt.NDArray[np.uint8], least: float) -> list[Square]:
    """Run the network in this process.

    Args:
        pixels: [h, w, 3] RGB.
        least: score.

    Returns:
        The detector's squares, highest score first.
    """
    # Imported late, because most photographs need no torch, which takes a second and 200 MB.
    import torch

    from restyle.core.faces.mmod.detector import find_mmod_faces

    (faces,) = find_mmod_faces(torch.from_numpy(pixels)[None], least)
    return [(face.box, face.score) for face in faces]


_searching: Search = search_here


def search_with(search: Search) -> None:
    """Let another function run the network from now on, such as one that asks another process."""
    global _searching
    _searching = search


def _search(
    image: Image.Image, scale: float, part: Box, least: float = _LEAST_SCORE
) -> list[tuple[_FloatBox, float]]:
    """Squares in pixels of the image, and scores, of the faces in a part of it."""
    left, top, right, bottom = part
    size = (max(1, int((right - left) * scale)), max(1, int((bottom - top) * scale)))
    across, down = size[0] / (right - left), size[1] / (bottom - top)
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    copy = image.resize(size, method, box=part)
    return [
        (
            (
                left + box[0] / across,
                top + box[1] / down,
                left + (box[2] + 1) / across,
                top + (box[3] + 1) / down,
            ),
            score,
        )
        for box, score in _searching(np.array(copy), least)
    ]


def _pieces(size: tuple[int, int], scale: float) -> Iterator[Box]:
    """Parts of at most about a megapixel of the copy that overlap."""
    side, overlap = math.sqrt(_COARSE) / scale, _OVERLAP / scale
    for top, bottom in _intervals(size[1], side, overlap):
        for left, right in _intervals(size[0], side, overlap):
            yield left, top, right, bottom


def _intervals(length: int, side: float, overlap: float) -> list[tuple[int, int]]:
    count = max(1, math.ceil((length - overlap) / side))
    step = (length - overlap) / count
    return [
        (round(index * step), min(length, round((index + 1) * step + overlap)))
        for index in range(count)
    ]


def _frontal(square: _FloatBox) -> Box:
    """The frontal detector's box of a face, for the predictor was trained with those."""
    left, top, right, bottom = square
    side = (right - left + bottom - top) / 2
    x, y = (left + right) / 2 + _SHIFT[0] * side, (top + bottom) / 2 + _SHIFT[1] * side
    half = _RATIO * side / 2
    return round(x - half), round(y - half), round(x + half), round(y + half)


def _is_same(one: _FloatBox, other: _FloatBox) -> bool:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return False
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height > _SAME_FACE * min(areas)
