"""Landmarks of faces that may be rotated or turned away, and whether they can be relied on.

The 68-point predictor was trained on upright, nearly frontal faces and draws one into every box.
dlib's five-point predictor was trained on heads in all directions. Both place the eyes alike where
they see them, so of several rotations of a face the one is right in which they agree best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatArray = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]

Fit = Callable[[Image.Image, Box], FloatArray]
"""Fits landmarks [N, 2] to a box of an image."""

# Distances between both predictors' eyes, in distances between the eyes. Measured on 84 frontal
# faces that were rotated by up to 180 degrees and 35 in profile or nearly so, of
# recipes/photographs: the right rotation has up to 0.04, and crops are then rotated by up to 2
# degrees against the head.
_AGREEMENT = 0.045

# Where they agree in no rotation, crops of faces as they are were rotated by up to 5 degrees below
# this limit, and by up to 34 above it.
_LIMIT = 0.12

# The predictors agree about faces that are rotated by up to 30 degrees.
_ROTATIONS = (45, -45, 90, -90, 135, -135, 180)

# Rotated copies show the box and as much around it as a quarter of its side.
_AROUND = 0.25

# Largest side of a rotated copy in pixels; the predictors compare single pixels and need no more.
_COPY = 400

# Distance from the eyes down to the base of the nose, in distances between the eyes, of a head that
# faces the camera: the median of 24 frontal portraits of recipes/photographs.
_DROP = 0.74


class TurnedFit(NamedTuple):
    """Landmarks of a face.

    Attributes:
        landmarks: [68, 2] in pixels.
        turn: of the head about its neck in degrees, from 0 to 90.
        apart: distance between both predictors' eyes, in distances between the eyes.
    """

    landmarks: FloatArray
    turn: float
    apart: float

    @property
    def is_reliable(self) -> bool:
        """Whether a crop by the landmarks is sensible."""
        return self.apart <= _LIMIT


class Predictors(NamedTuple):
    """dlib's predictors of 68 and of five points."""

    landmarks: Fit
    five: Fit


def fit_turned(image: Image.Image, box: Box, predictors: Predictors) -> TurnedFit:
    """Fit landmarks to a face in any rotation.

    Args:
        image: an upright RGB photograph.
        box: of the face, as the frontal detector's.
        predictors: both.
    """
    upright = _compare(image, box, predictors)
    if upright.apart <= _AGREEMENT:
        return upright
    for degrees in _ROTATIONS:
        rotated = _fit_rotated(image, box, predictors, degrees)
        if rotated.apart <= _AGREEMENT:
            return rotated
    return upright


def _fit_rotated(image: Image.Image, box: Box, predictors: Predictors, degrees: int) -> TurnedFit:
    """Fit to a copy that is rotated counterclockwise; the landmarks are those of the image."""
    side = max(box[2] - box[0], box[3] - box[1])
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    size = min(_COPY, max(round(side * (1 + 2 * _AROUND)), 1))
    scale = side * (1 + 2 * _AROUND) / size
    turn = math.radians(degrees)
    # From centred pixels of the copy to centred pixels of the image.
    matrix = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    origin = middle - matrix @ (np.full(2, size / 2))
    copy = image.transform(
        (size, size),
        Image.Transform.AFFINE,
        (*matrix[0], origin[0], *matrix[1], origin[1]),
        Image.Resampling.BILINEAR,
    )
    half = side / scale / 2
    low, high = round(size / 2 - half), round(size / 2 + half)
    found = _compare(copy, (low, low, high, high), predictors)
    return found._replace(landmarks=(found.landmarks + 0.5) @ matrix.T + origin - 0.5)


def _compare(image: Image.Image, box: Box, predictors: Predictors) -> TurnedFit:
    landmarks, points = (fit(image, box) for fit in predictors)
    # The corners of the eye on the right of the picture, of that on the left, the nose.
    right, left, nose = points[:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    others = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    apart = (math.dist(left, others[0]) + math.dist(right, others[1])) / 2
    return TurnedFit(landmarks, _turn(left, right, nose), apart / max(math.dist(*others), 1e-9))


def _turn(left: FloatArray, right: FloatArray, nose: FloatArray) -> float:
    """The turn of a head under parallel projection.

    It shortens the distance between the eyes by its cosine, and not that from them to the nose.
    """
    between = right - left
    distance = max(math.hypot(*between), 1e-9)
    down = np.array([-between[1], between[0]]) / distance
    drop = max(float((nose - (left + right) / 2) @ down), 1e-9)
    return math.degrees(math.acos(min(1.0, _DROP * distance / drop)))
