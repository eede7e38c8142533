"""Landmarks of faces that may be rotated or turned away, and whether they can be relied on.

The 68-point predictor was trained on upright, nearly frontal faces and draws one into every box.
dlib's five-point predictor was trained on heads in all directions: where both place the eyes alike,
the face is upright and landmarks are right. Elsewhere the frontal detector tells how the head is
rotated: turned heads have low scores of it, but the highest ones where they are upright. Landmarks
of a turned head are not all in their places, but those of an upright copy lead to a sensible crop.
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

Search = Callable[[Image.Image, float], list[tuple[Box, float]]]
"""Finds boxes and scores of more than a score."""

# Largest distance between both predictors' eyes, in distances between the eyes, at which crops are
# rotated by up to 2 degrees against the head (84 frontal faces of recipes/photographs, rotated).
_AGREEMENT = 0.045

# Rotations in degrees of the copies in which the frontal detector is asked. It sees heads that are
# rotated by up to 15 degrees as well as upright ones.
_UPRIGHT = (0, 30, -30)
_ROTATED = (60, -60, 90, -90, 120, -120, 150, -150, 180)

# A head is taken as upright, within 30 degrees, unless a copy that is rotated further has a score
# that is higher by this; then it is rotated like that if the score is a face's, or cannot be told.
_HIGHER = 0.2
_FACE = 0.0

# Rotated copies show the box and as much around it as a quarter of its side.
_AROUND = 0.25

# Largest side of a rotated copy in pixels; the predictors compare single pixels and need no more.
_COPY = 400

# Side in pixels of a face in the copies that the frontal detector sees, and the least score that it
# tells. A copy is three times as wide.
_FRONTAL_SIDE = 100
_LEAST_SCORE = -1.5

# A detection is of the face if its centre is off by less than this share of the face's side, and
# its side is larger or smaller by less than this factor.
_NEAR, _SIMILAR = 0.4, 1.9

# Distance from the eyes down to the base of the nose, in distances between the eyes, of a head that
# faces the camera: the median of 24 frontal portraits of recipes/photographs.
_DROP = 0.74


class TurnedFit(NamedTuple):
    """Landmarks of a face.

    Attributes:
        landmarks: [68, 2] in pixels.
        turn: of the head about its neck in degrees, from 0 to 90.
        apart: distance between both predictors' eyes, in distances between the eyes.
        is_reliable: whether a crop by the landmarks is sensible.
    """

    landmarks: FloatArray
    turn: float
    apart: float
    is_reliable: bool


class Predictors(NamedTuple):
    """dlib's predictors of 68 and of five points, and its frontal detector."""

    landmarks: Fit
    five: Fit
    frontal: Search


def fit_turned(image: Image.Image, box: Box, predictors: Predictors) -> TurnedFit:
    """Fit landmarks to a face in any rotation.

    Args:
        image: an upright RGB photograph.
        box: of the face, as the frontal detector's.
        predictors: all three.
    """
    upright = _compare(image, box, predictors)
    if upright.apart <= _AGREEMENT:
        return upright
    degrees = _rotation(image, box, predictors.frontal)
    if degrees is None:
        return upright._replace(is_reliable=False)
    return _fit_rotated(image, box, predictors, degrees) if degrees else upright


def _rotation(image: Image.Image, box: Box, frontal: Search) -> int | None:
    """Degrees by which the photograph must be rotated counterclockwise so that a head is upright.

    Returns:
        A multiple of 30; None if it cannot be told.
    """
    around = _around(image, box)
    scores = {
        degrees: _score(around.rotate(degrees, Image.Resampling.BICUBIC), frontal)
        for degrees in _UPRIGHT + _ROTATED
    }
    # As the photograph shows it, unless a copy is better by far.
    upright = max(_UPRIGHT, key=lambda degrees: scores[degrees] - _HIGHER * (degrees != 0))
    rotated = max(_ROTATED, key=lambda degrees: scores[degrees])
    if scores[rotated] <= max(scores[degrees] for degrees in _UPRIGHT) + _HIGHER:
        return upright
    return rotated if scores[rotated] > _FACE else None


def _around(image: Image.Image, box: Box) -> Image.Image:
    """A copy of a face and of as much on each side, which may be outside of the image."""
    side = box[2] - box[0]
    size = (3 * _FRONTAL_SIDE, 3 * _FRONTAL_SIDE)
    part = image.crop((box[0] - side, box[1] - side, box[0] + 2 * side, box[1] + 2 * side))
    method = Image.Resampling.BOX if side > _FRONTAL_SIDE else Image.Resampling.BILINEAR
    return part.resize(size, method)


def _score(copy: Image.Image, frontal: Search) -> float:
    """The frontal detector's largest score of the face in the middle of a copy."""
    middle = (copy.width / 2, copy.height / 2)
    return max(
        (
            score
            for box, score in frontal(copy, _LEAST_SCORE)
            if math.dist(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), middle)
            < _NEAR * _FRONTAL_SIDE
            and 1 / _SIMILAR < (box[2] - box[0]) / _FRONTAL_SIDE < _SIMILAR
        ),
        default=_LEAST_SCORE,
    )


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
    landmarks, points = predictors.landmarks(image, box), predictors.five(image, box)
    # The corners of the eye on the right of the picture, of that on the left, the nose.
    right, left, nose = points[:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    others = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    apart = (math.dist(left, others[0]) + math.dist(right, others[1])) / 2
    apart /= max(math.dist(*others), 1e-9)
    return TurnedFit(landmarks, _turn(left, right, nose), apart, is_reliable=True)


def _turn(left: FloatArray, right: FloatArray, nose: FloatArray) -> float:
    """The turn of a head under parallel projection.

    It shortens the distance between the eyes by its cosine, and not that from them to the nose.
    """
    between = right - left
    distance = max(math.hypot(*between), 1e-9)
    down = np.array([-between[1], between[0]]) / distance
    drop = max(float((nose - (left + right) / 2) @ down), 1e-9)
    return math.degrees(math.acos(min(1.0, _DROP * distance / drop)))
