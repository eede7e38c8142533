"""Landmarks that somebody already has, reduced to the anchors that determine a crop.

The crop of 1812.04948, appendix C, depends on three points of a face: the centres of the eyes and
the middle between the corners of the mouth. So 68 landmarks and five determine it alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from restyle.core.errors import RejectError, RejectReason

FloatArray = npt.NDArray[np.float64]
Anchors = npt.NDArray[Any]
"""Array of :data:`ANCHORS`."""

CORNERS, FIVE, ALL = 4, 5, 68
"""Numbers of points of a face: the corners of its crop, CelebA's points, dlib's points."""

ANCHORS = np.dtype([("points", "<i2"), ("places", "<f8", (5, 2))])
"""What determines the crop of one face; 82 bytes.

``points`` is the number of points that were given. ``places`` holds, in pixels of the upright
photograph: left eye, right eye, mouth, and the lowest and the highest coordinates of all points;
or, where the corners of the crop were given, these and their centre.
"""

OUTSIDE = 0.3
"""Share of the crop's side by which points may lie outside of the photograph.

dlib's own points do so by 0.23 where the border cuts a face by up to 40%.
"""

# Most sides of the photograph that a given crop may be wide, as a limit for memory.
_WIDEST = 4.0

# Least length in pixels between the eyes, from them to the mouth, and of a side of a crop.
_SMALLEST = 1.0

# Largest coordinate in pixels; larger ones lie in no photograph.
_FARTHEST = 1e6


def anchors_of(points: FloatArray) -> tuple[Anchors, dict[int, str]]:
    """Reduce the points of several faces.

    Args:
        points: [N, 4, 2] corners of crops: upper left, lower left, lower right, upper right;
            [N, 5, 2] left eye, right eye, nose, left and right corner of the mouth, each as it
            is seen; or [N, 68, 2] dlib's points. Pixels of the upright photograph, the centre of
            the first at (0, 0).

    Returns:
        [N] of :data:`ANCHORS`, and why faces cannot be cropped, by index: a sentence each.
    """
    count = points.shape[1]
    with np.errstate(invalid="ignore"):
        usable: npt.NDArray[np.bool_] = np.asarray((np.abs(points) <= _FARTHEST).all(axis=(1, 2)))
    points = np.where(usable[:, None, None], points, 0.0)
    anchors = np.zeros(len(points), ANCHORS)
    anchors["points"] = count
    places = anchors["places"]
    if count == CORNERS:
        places[:, :4] = points
        places[:, 4] = points.mean(axis=1)
    else:
        places[:, 0], places[:, 1], places[:, 2] = eyes_and_mouth(points)
        places[:, 3], places[:, 4] = points.min(axis=1), points.max(axis=1)
    return anchors, _faults(places, count, usable)


def eyes_and_mouth(points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the left eyes, the right eyes and the mouths, [N, 2] each, of N faces.

    Args:
        points: [N, 68, 2] or [N, 5, 2], as for :func:`anchors_of`.
    """
    if points.shape[1] == FIVE:
        return points[:, 0], points[:, 1], (points[:, 3] + points[:, 4]) / 2
    left, right = points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)
    return left, right, (points[:, 48] + points[:, 54]) / 2


def _faults(places: FloatArray, count: int, usable: npt.NDArray[np.bool_]) -> dict[int, str]:
    if count == CORNERS:
        across, down = places[:, 3] - places[:, 0], places[:, 1] - places[:, 0]
        wrong = "the corners are not upper left, lower left, lower right, upper right in this order"
    else:
        across = places[:, 1] - places[:, 0]
        down = places[:, 2] - (places[:, 0] + places[:, 1]) / 2
        wrong = "the points are mirrored: the left eye is the one that is seen on the left"
    area = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
    small = np.minimum(np.hypot(*across.T), np.hypot(*down.T)) < _SMALLEST
    faults: dict[int, str] = {}
    for index in np.flatnonzero(~usable | small | (area <= 0)):
        if not usable[index]:
            text = "the points hold values that are missing, not finite, or in no photograph"
        elif small[index] or not area[index]:
            text = "the points span no face: some of them coincide"
        else:
            text = wrong
        faults[int(index)] = text
    return faults


def anchors_of_face(points: npt.ArrayLike) -> Any:
    """Reduce the points of one face; see :func:`anchors_of`.

    Raises:
        RejectError: ``bad_landmarks`` for another number of points, for values that are not
            finite, and for points that span no face.
    """
    try:
        array = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) not in (CORNERS, FIVE, ALL):
        raise RejectError(RejectReason.BAD_LANDMARKS, wrong_count(array.shape))
    anchors, faults = anchors_of(array[None])
    if faults:
        raise RejectError(RejectReason.BAD_LANDMARKS, faults[0])
    return anchors[0]


def wrong_count(shape: tuple[int, ...]) -> str:
    """Return a sentence about points of another number than known."""
    found = f"{shape[0]} points" if len(shape) == 2 and shape[1] == 2 else "no list of points"
    return f"{found}, where a face has 68, 5 (CelebA's) or 4 (corners of the crop)"


def check_inside(anchors: Any, quad: FloatArray, size: tuple[int, int]) -> None:
    """Check that a face lies in its photograph.

    Args:
        anchors: of the face, an element of :data:`ANCHORS`.
        quad: [4, 2] corners of its crop.
        size: width and height of the photograph in pixels.

    Raises:
        RejectError: ``landmarks_outside`` if a point lies outside by more than :data:`OUTSIDE` of
            the crop's side. Corners of a crop may lie outside, but not its centre.
    """
    places = anchors["places"]
    side = float(np.hypot(*(quad[3] - quad[0])))
    is_quad = anchors["points"] == CORNERS
    low, high = (places[4], places[4]) if is_quad else (places[3], places[4])
    allowed = 0.0 if is_quad else OUTSIDE * side
    beyond = max(-low.min(), float((high - (np.asarray(size) - 1)).max())) - 0.5
    what = "the centre of the crop lies" if is_quad else "points lie"
    if beyond > allowed:
        raise RejectError(
            RejectReason.LANDMARKS_OUTSIDE,
            f"{what} {beyond:.1f} pixels outside of the {size[0]}x{size[1]} photograph"
            + ("" if is_quad else f", more than {OUTSIDE:.0%} of the crop's side of {side:.1f}"),
        )
    if side > _WIDEST * max(size):
        raise RejectError(
            RejectReason.LANDMARKS_OUTSIDE,
            f"the crop is {side:.0f} pixels wide, the photograph is {size[0]}x{size[1]}",
        )
