"""Face alignment: the FFHQ crop that the published face models were trained on.

dlib detects faces and 68 landmarks; eyes and mouth define an oriented square (the *quad*) that is
cropped from the photo. The quad is stored, so that an edited face can be pasted back.
Source: Karras et al., "A Style-Based Generator Architecture for GANs" (1812.04948), appendix C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.errors import RejectError, RejectReason, SpecError
from restyle.core.faces.anchors import (
    ANCHORS,
    CORNERS,
    Anchors,
    anchors_of_face,
    check_inside,
    eyes_and_mouth,
)
from restyle.core.faces.detection import Detector, FacePolicy
from restyle.core.faces.landmarks import PREDICTOR_VARIABLE, FloatArray, find_landmarks, model_files
from restyle.core.faces.reduction import reduced
from restyle.core.faces.surroundings import crop_beyond
from restyle.core.imaging.upright import upright_rgb
from restyle.core.stage_clock import stage

__all__ = [
    "FFHQ",
    "PREDICTOR_VARIABLE",
    "Face",
    "FacePolicy",
    "Framing",
    "align_faces",
    "crop_quad",
    "face_quad",
    "find_landmarks",
    "model_files",
    "outside_fraction",
    "quad_to_crop",
]


@dataclass(frozen=True)
class Framing:
    """A domain's crop relative to the FFHQ quad.

    Attributes:
        scale: side of the crop relative to the FFHQ quad; 1.0 for the published face models.
        shift: displacement of the centre towards the chin, in units of the FFHQ quad's side.
    """

    scale: float = 1.0
    shift: float = 0.0


FFHQ = Framing()

_NO_FACE: dict[Detector, str] = {
    "hog": "dlib's frontal detector finds no face",
    "exact": "dlib's frontal detector finds no face",
    "cnn": "dlib's convolutional detector finds no face",
    "auto": "neither of dlib's detectors finds a face that the convolutional one confirms",
}


@dataclass(frozen=True, eq=False)
class Face:
    """One aligned face.

    Attributes:
        image: RGB crop of ``size`` x ``size`` pixels.
        quad: [4, 2] float64, corners of the crop in pixels of the upright photo, in the order
            upper left, lower left, lower right, upper right.
        landmarks: [68, 2] float64, dlib's points in pixels of the upright photo; or the points that
            were given, [68, 2], [5, 2] or [4, 2].
        box: left, top, right, bottom of the detection, in pixels of the upright photo; of given
            points the smallest that holds them.
        score: the detector's confidence, without a fixed scale; NaN for given points.
        detector: name of the detector that found the face; ``given`` for given points.
        note: warning about other faces of the photograph; usually empty.
    """

    image: Image.Image
    quad: FloatArray
    landmarks: FloatArray
    box: tuple[int, int, int, int]
    score: float
    detector: str
    note: str = ""


def align_faces(
    image: Image.Image,
    size: int = 256,
    faces: FacePolicy = "largest",
    framing: Framing = FFHQ,
    landmarks: Sequence[npt.ArrayLike] | None = None,
    detector: Detector = "hog",
) -> list[Face]:
    """Detect faces in a photo and crop each as in FFHQ.

    Args:
        image: a photo from :func:`restyle.core.imaging.decoding.decode_image`, or any other Pillow
            image, which is turned upright and converted to RGB.
        size: side of the crops in pixels.
        faces: ``largest`` keeps the face with the largest box among those that can be cropped,
            ``all`` keeps all of them, largest first.
        framing: the domain's crop, :data:`FFHQ` for the published face models.
        landmarks: points of each face, so that nothing is detected: an array as in
            :func:`restyle.core.faces.anchors.anchors_of` for each, or for the only one. The largest
            face is then that with the largest crop. Corners of a crop are used as they are,
            without ``framing``.
        detector: how faces are found, see :data:`restyle.core.faces.detection.Detector`; of given
            points only whether crops are ``exact``.

    Returns:
        At least one face.

    Raises:
        RejectError: ``no_face`` when the detector finds none, ``turned_away`` when all that it
            finds are turned too far for their landmarks, ``unsupported_mode`` for pixels
            that cannot become RGB, ``no_landmarks``, ``bad_landmarks`` or ``landmarks_outside``
            for given points.
        SpecError: the policy or the detector is unknown, or the size is below 1.
    """
    if faces not in get_args(FacePolicy):
        raise SpecError(f"there is no face policy {faces!r}; choose among largest, all")
    if size < 1:
        raise SpecError(f"a crop cannot have {size} pixels a side")
    image = upright_rgb(image)
    if landmarks is not None:
        return _aligned(image, size, faces, framing, landmarks, exact=detector == "exact")
    found = find_landmarks(image, faces, detector)
    if not found:
        raise RejectError(RejectReason.NO_FACE, _NO_FACE[detector])
    aligned = []
    for points, face in found:
        quad = face_quad(points, framing)
        crop = crop_quad(image, quad, size, exact=detector == "exact")
        aligned.append(Face(crop, quad, points, face.box, face.score, face.detector, face.note))
    return aligned


def _aligned(
    image: Image.Image,
    size: int,
    faces: FacePolicy,
    framing: Framing,
    landmarks: Sequence[npt.ArrayLike],
    *,
    exact: bool,
) -> list[Face]:
    if isinstance(landmarks, np.ndarray) and landmarks.ndim == 2:
        landmarks = [landmarks]
    anchors = np.array([anchors_of_face(each) for each in landmarks], ANCHORS)
    points = [np.asarray(each, np.float64) for each in landmarks]
    aligned = []
    for index, quad in given_quads(anchors, image.size, faces, framing):
        low, high = np.floor(points[index].min(axis=0)), np.ceil(points[index].max(axis=0))
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        crop = crop_quad(image, quad, size, exact=exact)
        aligned.append(Face(crop, quad, points[index], box, np.nan, "given"))
    return aligned


def given_quads(
    anchors: Anchors, size: tuple[int, int], faces: FacePolicy, framing: Framing
) -> list[tuple[int, FloatArray]]:
    """The crops of faces whose landmarks are given.

    Args:
        anchors: [N] of :data:`restyle.core.faces.anchors.ANCHORS`.
        size: width and height of the photo.
        faces: as in :func:`align_faces`.
        framing: as in :func:`align_faces`.

    Returns:
        Index and quad of each face, largest quad first.

    Raises:
        RejectError: ``no_landmarks`` or ``landmarks_outside``.
    """
    if not len(anchors):
        raise RejectError(RejectReason.NO_LANDMARKS, "no landmarks are given for it")
    quads = [_given_quad(each, framing) for each in anchors]
    for each, quad in zip(anchors, quads, strict=True):
        check_inside(each, quad, size)
    order = sorted(range(len(quads)), key=lambda index: -_side(quads[index]))
    return [(index, quads[index]) for index in order[: 1 if faces == "largest" else None]]


def _given_quad(anchors: Any, framing: Framing) -> FloatArray:
    if anchors["points"] == CORNERS:
        return np.array(anchors["places"][:4])
    eye_left, eye_right, mouth = anchors["places"][:3]
    return _quad(eye_left, eye_right, mouth, framing)


def face_quad(landmarks: FloatArray, framing: Framing = FFHQ) -> FloatArray:
    """The oriented crop square of a face (1812.04948, appendix C).

    Args:
        landmarks: [68, 2] points in pixels, in dlib's order; or [5, 2], in CelebA's.
        framing: the part of the FFHQ quad to keep.

    Returns:
        [4, 2] corners: upper left, lower left, lower right, upper right.
    """
    eye_left, eye_right, mouth = (each[0] for each in eyes_and_mouth(landmarks[None]))
    return _quad(eye_left, eye_right, mouth, framing)


def _quad(
    eye_left: FloatArray, eye_right: FloatArray, mouth: FloatArray, framing: Framing
) -> FloatArray:
    eye_centre = (eye_left + eye_right) / 2
    eye_to_eye = eye_right - eye_left
    eye_to_mouth = mouth - eye_centre

    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x /= np.hypot(*x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    centre = eye_centre + eye_to_mouth * 0.1 + y * 2 * framing.shift
    x, y = x * framing.scale, y * framing.scale
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


@stage("crop")
def crop_quad(
    image: Image.Image, quad: FloatArray, size: int, *, exact: bool = True
) -> Image.Image:
    """Crop a quad from a photo, with reflected and blurred pixels outside of the photo.

    Args:
        image: RGB photo.
        quad: [4, 2] corners in its pixels, from :func:`face_quad`.
        size: side of the result in pixels.
        exact: reduce a large face with the recipe's filter. Another takes a third of its time;
            crops differ by 0.2 grey levels, in the median of 30 photographs, and at most by 0.9.

    Returns:
        RGB image of ``size`` x ``size`` pixels.
    """
    # A face far larger than the crop is reduced first, so that bilinear sampling does not alias.
    shrink = max(int(np.floor(_side(quad) / size * 0.5)), 1)
    width, height = round(image.width / shrink), round(image.height / shrink)
    quad = quad / shrink
    quad_size = _side(quad)
    border = max(round(quad_size * 0.1), 3)

    left, top = np.floor(quad.min(axis=0)).astype(int)
    right, bottom = np.ceil(quad.max(axis=0)).astype(int)
    crop = (
        max(int(left) - border, 0),
        max(int(top) - border, 0),
        min(int(right) + border, width),
        min(int(bottom) + border, height),
    )
    if crop[0] < crop[2] and crop[1] < crop[3]:
        image = reduced(image, (width, height), crop, exact=exact)
        quad = quad - crop[:2]
    else:
        image = reduced(image, (width, height), (0, 0, width, height), exact=exact)

    low, high = np.floor(quad.min(axis=0)), np.ceil(quad.max(axis=0))
    outside = np.concatenate([-low, high - image.size]) + border
    if outside.max() > border - 4:
        margins = np.maximum(outside, round(quad_size * 0.3)).astype(int)
        return crop_beyond(image, quad, margins, quad_size * 0.02, size)

    corners = tuple((quad + 0.5).flatten())
    return image.transform((size, size), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)


def quad_to_crop(quad: FloatArray, size: int) -> FloatArray:
    """The affine map from photo pixels to crop pixels; its inverse pastes an edited face back.

    The origin of both coordinate systems is the outer corner of the first pixel, as in Pillow's
    transforms; the origin of landmarks and quads is the centre of that pixel.

    Args:
        quad: [4, 2] corners, from :func:`face_quad`.
        size: side of the crop in pixels.

    Returns:
        [2, 3] float64 matrix M with ``crop_xy = M[:, :2] @ photo_xy + M[:, 2]``.
    """
    upper_left, lower_left, _, upper_right = quad + 0.5
    to_photo = np.stack([(upper_right - upper_left) / size, (lower_left - upper_left) / size], 1)
    linear = np.linalg.inv(to_photo)
    return np.concatenate([linear, (-linear @ upper_left)[:, None]], axis=1)


def outside_fraction(quad: FloatArray, image_size: tuple[int, int], samples: int = 64) -> float:
    """Share of a quad's area outside of the photo.

    Args:
        quad: [4, 2] corners in pixels.
        image_size: width and height of the photo.
        samples: points per side of the sampling grid.
    """
    steps = (np.arange(samples) + 0.5) / samples
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    points = quad[0] + steps[:, None, None] * across + steps[None, :, None] * down
    inside = (points >= 0) & (points < np.asarray(image_size))
    return float(1.0 - inside.all(axis=-1).mean())


def _side(quad: FloatArray) -> float:
    return float(np.hypot(*(quad[3] - quad[0])))
