"""The search for faces on the levels of dlib's pyramid."""

from __future__ import annotations

import functools
import logging

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.faces.hog.filters import frontal_detector, frontal_filters
from restyle.core.faces.hog.levels import PhotographLevels
from restyle.core.faces.hog.pyramid import Box, enlarged, faces_of, level_sizes
from restyle.core.faces.hog.uncertain import UNCERTAIN, UncertainFaces
from restyle.core.imaging.shared_pixels import shared_pixels
from restyle.kernels.hog import Levels, Part, scan, why_unavailable

# dlib needs about 60 bytes for each pixel that it searches; larger photographs are scanned row by
# row, in memory that grows with their width alone.
_MAX_PIXELS_OF_DLIB = 2048**2

# Levels around that of a face that may hold a better box of it. On others, boxes hardly overlap.
_NEIGHBOURS = 2

# Part of the photograph around a face, in sides of its box, in which windows of those levels are
# scored.
_AROUND = 0.6

# Rows of a photograph that are converted at once.
_ROWS = 256

_log = logging.getLogger(__name__)


def find_exactly(image: Image.Image) -> list[tuple[Box, float]]:
    """The published recipe: dlib's detector on the photograph at twice its size.

    dlib itself searches photographs of up to four megapixels. Larger ones are scanned on the same
    levels with the same filters, with scores that differ by rounding, in bounded memory.

    Args:
        image: an upright RGB photograph.

    Returns:
        Boxes and scores, in no order.
    """
    if image.width * image.height <= _MAX_PIXELS_OF_DLIB or not _can_scan():
        boxes, scores, _ = frontal_detector().run(pixels_of(image), 1, 0.0)
        return [
            ((box.left(), box.top(), box.right(), box.bottom()), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]
    return _scan_whole(shared_pixels(image))


def find_all(image: Image.Image, margin: float = 0.0) -> list[tuple[Box, float]]:
    """All faces of :func:`find_exactly`, scanned row by row.

    Args:
        image: an upright RGB photograph.
        margin: required score.
    """
    return _scan_whole(shared_pixels(image), margin) if _can_scan() else find_exactly(image)


def find_largest(image: Image.Image) -> list[tuple[Box, float]]:
    """The largest face of :func:`find_exactly`, and perhaps others.

    Levels are scanned coarse to fine, on pixels that differ from dlib's by rounding (see
    :mod:`restyle.core.faces.hog.levels`), and then the levels around what may be a face. The search
    ends with the levels that hold a face. Where scores are too close to tell which box is the
    recipe's, they are computed exactly; otherwise they differ from the recipe's by 0.03 (standard
    deviation). When no level shows a face, the finest are scanned exactly.
    """
    if not _can_scan():
        return find_exactly(image)
    levels = PhotographLevels(image)
    faces = UncertainFaces(levels)
    last = levels.last
    for group in levels.groups():
        for box, _, level in levels.glimpsed(group):
            near = range(max(level - _NEIGHBOURS, 0), min(level + _NEIGHBOURS, levels.last) + 1)
            faces.add(levels.scanned(near, UNCERTAIN, enlarged(box, _AROUND)))
        found = faces.settled()
        if any(level >= group.start for _, _, level in found):
            return _without_level(found)
        last = group.start - 1
    # Boxes of two levels more may be better ones of the same faces.
    return _scan_whole(levels.pixels, last=min(last + _NEIGHBOURS, levels.last))


def pixels_of(image: Image.Image, part: Box | None = None) -> npt.NDArray[np.uint8]:
    """Pixels [h, w, 3] of an RGB image or a part of it, without more copies as Pillow makes."""
    left, top, right, bottom = part or (0, 0, *image.size)
    pixels = np.empty((bottom - top, right - left, 3), np.uint8)
    for start in range(top, bottom, _ROWS):
        end = min(start + _ROWS, bottom)
        pixels[start - top : end - top] = np.asarray(image.crop((left, start, right, end)))
    return pixels


def _scan_whole(
    pixels: npt.NDArray[np.uint8], margin: float = 0.0, last: int | None = None
) -> list[tuple[Box, float]]:
    """Faces on the photograph's own levels, to the ``last`` or to all."""
    filters, overlap = frontal_filters()
    height, width, _ = pixels.shape
    sizes = level_sizes((width, height))
    last = len(sizes) - 1 if last is None else last
    levels = Levels(0, last, 0, sizes[0], Part(0, 0, *sizes[0]))
    return _without_level(faces_of(scan(pixels, filters, levels, margin=margin), overlap))


def _without_level(found: list[tuple[Box, float, int]]) -> list[tuple[Box, float]]:
    return [(box, score) for box, score, _ in found]


@functools.cache
def _can_scan() -> bool:
    why = why_unavailable()
    if why:
        _log.warning(
            "faces are searched by dlib itself, which finds the same but is slower: %s", why
        )
    return not why
