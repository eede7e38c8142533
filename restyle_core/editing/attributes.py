"""Attribute scores from 68 facial landmarks: smile, pose, open mouth.

Every score is a ratio of lengths in one face, so that it depends neither on the size of the picture
nor on the roll of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.faces.landmarks import FloatArray, find_landmarks

MEASURED_SIDE = 256
"""Smaller pictures are enlarged to this side, because dlib's detector finds no small faces."""


def smile(landmarks: FloatArray) -> float:
    """Width of the mouth plus the height of its corners above its middle, in eye distances."""
    points = _upright(landmarks)
    middle = points[[51, 62, 66, 57], 1].mean()
    corners = points[[48, 54], 1].mean()
    return float(points[54, 0] - points[48, 0] + middle - corners)


def pose(landmarks: FloatArray) -> float:
    """Offset of the nose from the middle of the cheeks, in half face widths; about -1 to 1.

    0 is frontal; positive is turned towards the right of the picture.
    """
    points = _upright(landmarks)
    left, right = points[1:4, 0].mean(), points[13:16, 0].mean()
    return float((2 * points[30, 0] - left - right) / (right - left))


def mouth(landmarks: FloatArray) -> float:
    """Gap between the inner lips, in eye distances."""
    points = _upright(landmarks)
    return float((points[[65, 66, 67], 1] - points[[63, 62, 61], 1]).mean())


SCORERS: dict[str, Callable[[FloatArray], float]] = {"smile": smile, "pose": pose, "mouth": mouth}
"""Measurable attributes; a direction of one of these names is measured by its scorer."""


def measure(images: Sequence[Image.Image]) -> dict[str, npt.NDArray[np.float32]]:
    """Score the largest face of each picture.

    Args:
        images: aligned faces, RGB.

    Returns:
        [N] float32 for each name of :data:`SCORERS`; NaN where dlib finds no face.
    """
    found = [_landmarks(image) for image in images]
    return {
        name: np.array(
            [np.nan if points is None else score(points) for points in found], dtype=np.float32
        )
        for name, score in SCORERS.items()
    }


def enlarged(image: Image.Image) -> Image.Image:
    """Resize a picture so that its shorter side has at least :data:`MEASURED_SIDE` pixels."""
    factor = MEASURED_SIDE / min(image.size)
    if factor <= 1:
        return image
    width, height = (round(side * factor) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _landmarks(image: Image.Image) -> FloatArray | None:
    found = find_landmarks(enlarged(image))
    return found[0][0] if found else None


def _upright(landmarks: FloatArray) -> FloatArray:
    """Landmarks with the eyes on a horizontal line, in units of their distance."""
    left, right = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    across = right - left
    down = np.array([-across[1], across[0]])
    centred = landmarks - (left + right) / 2
    turned: FloatArray = np.stack([centred @ across, centred @ down], axis=1) / (across @ across)
    return turned
