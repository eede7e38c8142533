"""The search for faces on the levels of dlib's pyramid."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.faces.hog.filters import frontal_filters
from restyle.core.faces.hog.pyramid import Box, faces_of, level_sizes
from restyle.kernels.hog import Levels, Part, scan, why_unavailable

# dlib needs about 60 bytes for each pixel that it searches; larger photographs are scanned row by
# row, in memory that grows with their width alone.
_MAX_PIXELS_OF_DLIB = 2048**2

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
        boxes, scores, _ = _detector().run(pixels_of(image), 1, 0.0)
        return [
            ((box.left(), box.top(), box.right(), box.bottom()), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]
    return _scan_whole(pixels_of(image))


def find_all(image: Image.Image, margin: float = 0.0) -> list[tuple[Box, float]]:
    """All faces of :func:`find_exactly`, scanned row by row.

    Args:
        image: an upright RGB photograph.
        margin: required score.
    """
    return _scan_whole(pixels_of(image), margin) if _can_scan() else find_exactly(image)


def pixels_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Pixels [h, w, 3] of an RGB image, without the second copy that Pillow makes."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _ROWS):
        bottom = min(top + _ROWS, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _scan_whole(pixels: npt.NDArray[np.uint8], margin: float = 0.0) -> list[tuple[Box, float]]:
    filters, overlap = frontal_filters()
    height, width, _ = pixels.shape
    sizes = level_sizes((width, height))
    levels = Levels(0, len(sizes) - 1, 0, sizes[0], Part(0, 0, *sizes[0]))
    hits = scan(pixels, filters, levels, margin=margin)
    return [(box, score) for box, score, _ in faces_of(hits, overlap)]


@functools.cache
def _can_scan() -> bool:
    why = why_unavailable()
    if why:
        _log.warning(
            "faces are searched by dlib itself, which finds the same but is slower: %s", why
        )
    return not why


@functools.cache
def _detector() -> Any:
    import dlib

    return dlib.get_frontal_face_detector()
