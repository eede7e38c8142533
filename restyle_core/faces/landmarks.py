"""Detection of faces and their 68 landmarks with dlib."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.errors import FatalError

FloatArray = npt.NDArray[np.float64]

PREDICTOR_VARIABLE = "RESTYLE_LANDMARKS"
"""Environment variable: path of another 68-point predictor file for dlib."""

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

_POINTS = 68

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

# Box of dlib's detector in a crop of recipes/faces64: left, top, right, bottom relative to its
# side.
_FACE_IN_CROP = (0.15, 0.25, 0.85, 0.95)


def find_landmarks(
    image: Image.Image, *, small: bool = True
) -> list[tuple[FloatArray, Box, float]]:
    """Detect faces with one upsampling and fit 68 landmarks to each.

    Of a large image a reduced copy is searched first, and then the image itself piece by piece, in
    memory that does not grow with it. Faces from 40 pixels are found in up to 48 megapixels.

    Args:
        image: an upright RGB photo.
        small: also look for faces that are too small for the copy when it shows larger ones.

    Returns:
        ``(landmarks [68, 2], box (left, top, right, bottom), score)`` in pixels, largest box
        first; boxes of equal size are ordered by position.
    """
    import dlib

    _, predictor = _dlib_models(os.environ.get(PREDICTOR_VARIABLE))
    pixels = np.asarray(image)
    area = image.width * image.height
    coarse = max(1.0, math.sqrt(area) / _MAX_DETECTION_SIDE)
    detected = _detect(image, coarse, (0, 0, *image.size))
    if coarse > 1.0 and (small or not detected):
        for part, fine in _pieces(image.size, coarse):
            for box, score in _detect(image, fine, part):
                if not any(_is_same(box, other) for other, _ in detected):
                    detected.append((box, score))
    found = []
    for box, score in detected:
        shape = predictor(pixels, dlib.rectangle(*box))
        landmarks = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
        found.append((landmarks, box, score))
    return sorted(found, key=lambda face: (-_area(face[1]), face[1]))


def _detect(image: Image.Image, reduction: float, part: Box) -> list[tuple[Box, float]]:
    """Boxes, in pixels of the image, and scores of the faces in a part of it."""
    detector, _ = _dlib_models(os.environ.get(PREDICTOR_VARIABLE))
    left, top, right, bottom = part
    searched = image if part == (0, 0, *image.size) else image.crop(part)
    if reduction > 1.0:
        # Rounded down, so that no copy is larger than one in one piece may be.
        size = (int((right - left) / reduction), int((bottom - top) / reduction))
        if not all(size):
            return []
        searched = searched.resize(size, Image.Resampling.BOX)
    boxes, scores, _ = detector.run(np.asarray(searched), 1, 0.0)
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


def fit_landmarks(pixels: npt.NDArray[np.uint8]) -> FloatArray:
    """Fit 68 landmarks to an aligned crop without detection.

    Args:
        pixels: [S, S, 3] RGB, one face, upright and in the middle.

    Returns:
        [68, 2] in pixels, also if there is no face.
    """
    import dlib

    _, predictor = _dlib_models(os.environ.get(PREDICTOR_VARIABLE))
    side = len(pixels)
    left, top, right, bottom = (round(share * side) for share in _FACE_IN_CROP)
    shape = predictor(pixels, dlib.rectangle(left, top, right, bottom))
    return np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)


def model_files() -> Path:
    """Folder of dlib's model files in the installed package ``face_recognition_models``.

    Raises:
        FatalError: the package is not installed.
    """
    # Importing the package needs pkg_resources, which recent setuptools do not include.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise FatalError(
            "dlib's model files are missing: install the package face_recognition_models"
        )
    return Path(spec.submodule_search_locations[0]) / "models"


@functools.cache
def _dlib_models(named: str | None) -> tuple[Any, Any]:
    import dlib

    path = Path(named) if named else model_files() / "shape_predictor_68_face_landmarks.dat"
    if not path.is_file():
        remedy = f"correct or unset {PREDICTOR_VARIABLE}" if named else "install it again"
        raise FatalError(f"there is no landmark predictor {path}; {remedy}")
    try:
        predictor = dlib.shape_predictor(str(path))
    except RuntimeError as error:
        raise FatalError(f"{path} is no landmark predictor that dlib can read: {error}") from error
    # dlib tells how many points a predictor has by predicting alone.
    blank = np.zeros((_POINTS, _POINTS, 3), np.uint8)
    points = predictor(blank, dlib.rectangle(0, 0, _POINTS, _POINTS)).num_parts
    if points != _POINTS:
        raise FatalError(
            f"{path} predicts {points} points, alignment needs {_POINTS} (iBUG 300-W); correct or "
            f"unset {PREDICTOR_VARIABLE}"
        )
    return dlib.get_frontal_face_detector(), predictor


def _area(box: Iterable[int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
