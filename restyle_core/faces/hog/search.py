"""The search for faces on the levels of dlib's pyramid."""

from __future__ import annotations

import functools
import logging

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.faces.hog.filters import Overlap, frontal_detector, frontal_filters
from restyle.core.faces.hog.pyramid import Box, faces_of, first_level_of, is_same, level_sizes
from restyle.kernels.hog import HIT, Levels, Part, scan, why_unavailable

# dlib needs about 60 bytes for each pixel that it searches; larger photographs are scanned row by
# row, in memory that grows with their width alone.
_MAX_PIXELS_OF_DLIB = 2048**2

# A face is looked for in copies of the photograph at these fractions of its size, smallest first.
_REDUCTIONS = (8, 4, 2, 1)

# Scores in a copy differ from those of the photograph's own levels, with a standard deviation of
# 0.08; every window above this score is settled on the photograph's own levels.
_CANDIDATE = -0.3

# Levels around a candidate's on which it is settled. On others, boxes hardly overlap its own.
_NEIGHBOURS = 2

# Part of the photograph in which a candidate is settled: its box and this share of its side around
# it. On the coarsest of those levels, a window of the same face needs about four cells more.
_AROUND = 0.95

# A candidate with less than this share of a found face's area is not a larger face.
_AS_LARGE = 0.5

# A candidate that overlaps a face so far has been settled with it.
_SETTLED = Overlap(common=0.5, covered=1.0)

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
    return _scan_whole(pixels_of(image))


def find_all(image: Image.Image, margin: float = 0.0) -> list[tuple[Box, float]]:
    """All faces of :func:`find_exactly`, scanned row by row.

    Args:
        image: an upright RGB photograph.
        margin: required score.
    """
    return _scan_whole(pixels_of(image), margin) if _can_scan() else find_exactly(image)


def find_largest(image: Image.Image) -> list[tuple[Box, float]]:
    """The largest face of :func:`find_exactly`, and perhaps others.

    Copies of the photograph are scanned coarse to fine. What may be a face is settled around its
    place on the photograph's own levels, so that box and score are those of the whole scan. The
    search ends with the copy whose levels hold a face; when none do, the finest levels of the
    photograph itself are scanned.
    """
    if not _can_scan():
        return find_exactly(image)
    _, overlap = frontal_filters()
    sizes = level_sizes(image.size)
    last = len(sizes) - 1
    copies = [image]
    for _ in _REDUCTIONS[1:]:
        copies.append(copies[-1].reduce(2))
    hits = np.empty(0, HIT)
    for reduction, copy in zip(_REDUCTIONS, reversed(copies), strict=True):
        first = _first_level(image.size, sizes, reduction)
        if first > last:
            continue
        candidates = _candidates(image, sizes, copy, reduction, range(first, last + 1))
        hits = _settled(image, sizes, candidates, hits)
        found = faces_of(hits, overlap)
        if any(level >= first for _, _, level in found):
            return _without_level(found)
        last = first - 1
    # Boxes of two levels more may be better ones of the same faces.
    return _scan_whole(pixels_of(image), last=min(last + _NEIGHBOURS, len(sizes) - 1))


def _first_level(size: tuple[int, int], sizes: list[tuple[int, int]], reduction: int) -> int:
    """The finest level that is no larger than a reduced copy."""
    fits = (
        number
        for number, level in enumerate(sizes)
        if all(side * reduction <= whole for side, whole in zip(level, size, strict=True))
    )
    return next(fits, len(sizes))


def _candidates(
    image: Image.Image,
    sizes: list[tuple[int, int]],
    copy: Image.Image,
    reduction: int,
    levels: range,
) -> list[tuple[Box, float, int]]:
    """Box, score and level of what may be a face, on levels made of a reduced copy."""
    filters, overlap = frontal_filters()
    size = sizes[levels.start]
    # dlib maps corners of a level to corners of the photograph, by the middles of their pixels.
    across, down = (
        (whole - 1) / (side - 1) / reduction for whole, side in zip(image.size, size, strict=True)
    )
    scanned = Levels(
        first=levels.start,
        last=levels.stop - 1,
        scored=levels.start,
        size=size,
        part=Part(0, 0, *size),
        origin=0.5 / reduction - 0.5,
        scale=(across, down),
    )
    return faces_of(scan(pixels_of(copy), filters, scanned, margin=_CANDIDATE), overlap)


def _settled(
    image: Image.Image,
    sizes: list[tuple[int, int]],
    candidates: list[tuple[Box, float, int]],
    hits: np.ndarray,
) -> np.ndarray:
    """Add the hits around the candidates, on the photograph's own levels, to earlier ones."""
    filters, overlap = frontal_filters()
    for box, _, level in sorted(candidates, key=lambda each: -_area(each[0])):
        found = [face for face, _, _ in faces_of(hits, overlap)]
        if any(_area(box) < _AS_LARGE * _area(face) for face in found):
            break
        if any(is_same(box, face, _SETTLED) for face in found):
            continue
        left, top, right, bottom = box
        margin = round(_AROUND * (right - left))
        part = (
            max(left - margin, 0),
            max(top - margin, 0),
            min(right + margin, image.width),
            min(bottom + margin, image.height),
        )
        levels = Levels(
            first=0,
            last=min(level + _NEIGHBOURS, len(sizes) - 1),
            scored=max(level - _NEIGHBOURS, 0),
            size=sizes[0],
            part=first_level_of(part, image.size),
        )
        around = scan(pixels_of(image, part), filters, levels, size=image.size, at=part[:2])
        hits = np.concatenate([hits, around])
    return hits


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


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


@functools.cache
def _can_scan() -> bool:
    why = why_unavailable()
    if why:
        _log.warning(
            "faces are searched by dlib itself, which finds the same but is slower: %s", why
        )
    return not why
