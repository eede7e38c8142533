"""Finding faces and their 68 landmarks with dlib."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.errors import FatalError

FloatArray = npt.NDArray[np.float64]

PREDICTOR_VARIABLE = "RESTYLE_LANDMARKS"
"""Environment variable that names another 68-point predictor file for dlib."""

# The detector's time and memory grow with the pixels of a doubled image. Above this side the
# search runs on a reduced copy; landmarks are always fitted at full resolution.
_MAX_DETECTION_SIDE = 2048

# Where dlib's detector sees the face in a crop of recipes/faces64, in shares of its side.
_FACE_IN_CROP = (0.15, 0.25, 0.85, 0.95)


def find_landmarks(
    image: Image.Image,
) -> list[tuple[FloatArray, tuple[int, int, int, int], float]]:
    """Detect faces with one upsampling and fit 68 landmarks to each.

    Args:
        image: an upright RGB photo.

    Returns:
        ``(landmarks [68, 2], box (left, top, right, bottom), score)`` in pixels, largest box
        first; equal boxes are ordered by position, so that the order is the same in every run.
    """
    import dlib

    detector, predictor = _dlib_models(os.environ.get(PREDICTOR_VARIABLE))
    pixels = np.asarray(image)
    reduction = max(1.0, max(image.size) / _MAX_DETECTION_SIDE)
    searched = pixels
    if reduction > 1.0:
        width, height = (round(side / reduction) for side in image.size)
        searched = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    boxes, scores, _ = detector.run(searched, 1, 0.0)
    found = []
    for box, score in zip(boxes, scores, strict=True):
        edges = (box.left(), box.top(), box.right(), box.bottom())
        left, top, right, bottom = (round(edge * reduction) for edge in edges)
        shape = predictor(pixels, dlib.rectangle(left, top, right, bottom))
        landmarks = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
        found.append((landmarks, (left, top, right, bottom), float(score)))
    return sorted(found, key=lambda face: (-_area(face[1]), face[1]))


def fit_landmarks(pixels: npt.NDArray[np.uint8]) -> FloatArray:
    """Fit 68 landmarks to an aligned crop, whose face lies where alignment put it.

    Args:
        pixels: [S, S, 3] RGB, one face, upright and in the middle.

    Returns:
        [68, 2] in pixels, whether there is a face or not: nothing is detected.
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
    # Importing the package would need pkg_resources, which recent setuptools no longer has.
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
    return dlib.get_frontal_face_detector(), predictor


def _area(box: Iterable[int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
