"""Decoding of one file into crops: aligned faces, or the whole image resized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from restyle.core.errors import RejectError, RejectReason

if TYPE_CHECKING:
    from restyle.core.imaging.decoding import Decoded
    from restyle.core.networks.config import Domain

FACE_CROP = 256
"""Side of aligned crops in pixels; models with smaller inputs reduce them."""

TIME_LIMIT = 120
"""Time limit of one image in seconds."""

MEMORY_LIMIT = 4 * 2**30
"""Memory limit of one image in bytes: twice the need of the largest image that is decoded."""

# Pixels above which what a photograph leaves free while it is decoded would be missed later.
_LARGE = 24_000_000


@dataclass(frozen=True)
class CropSettings:
    """Settings of the conversion from images to encoder inputs.

    Attributes:
        align: whether to detect and align faces; otherwise the whole image is resized.
        faces: which faces to keep.
        detector: how faces are found.
        size: height and width of crops in pixels; square for aligned faces.
        framing_scale: side of the domain's crop relative to the FFHQ quad.
        framing_shift: its displacement towards the chin, in units of the quad's side.
        time_limit: seconds per image.
        memory_limit: bytes per image.
        has_landmarks: whether the landmarks of faces are given, so that none are detected.
    """

    align: bool
    faces: Literal["largest", "all"]
    size: tuple[int, int]
    framing_scale: float = 1.0
    framing_shift: float = 0.0
    time_limit: int = TIME_LIMIT
    memory_limit: int = MEMORY_LIMIT
    detector: Literal["hog", "exact", "cnn", "auto"] = "hog"
    has_landmarks: bool = False

    @classmethod
    def of(
        cls,
        domain: Domain,
        align: bool,
        faces: Literal["largest", "all"],
        detector: Literal["hog", "exact", "cnn", "auto"] = "hog",
        *,
        has_landmarks: bool = False,
    ) -> CropSettings:
        """Settings for a model's domain; arguments as the attributes."""
        return cls(
            align=align,
            faces=faces,
            size=(FACE_CROP, FACE_CROP) if align else domain.image_size,
            framing_scale=domain.framing_scale,
            framing_shift=domain.framing_shift,
            detector=detector,
            has_landmarks=has_landmarks,
        )


class MarkedFile(NamedTuple):
    """A file whose landmarks are given.

    Attributes:
        data: content of the file.
        landmarks: bytes of an array of :data:`restyle.core.faces.anchors.ANCHORS`, an element
            for each face.
    """

    data: bytes
    landmarks: bytes


File = bytes | MarkedFile
"""Content of a file, with landmarks where :attr:`CropSettings.has_landmarks`."""


@dataclass(frozen=True, eq=False)
class DecodedCrop:
    """One encoder input.

    Attributes:
        pixels: [h, w, 3] uint8 RGB.
        quad: [4, 2] float64 corners in pixels of the upright photo.
        note: warning about the file, at its first crop; usually empty.
        detector: name of the detector that found the face, ``given`` for given landmarks; empty for
            whole images.
    """

    pixels: npt.NDArray[np.uint8]
    quad: npt.NDArray[np.float64]
    note: str = ""
    detector: str = ""


def read_crops(file: File, settings: CropSettings) -> list[DecodedCrop]:
    """Decode one file and crop its faces, or resize the whole image.

    Args:
        file: the file.
        settings: of the crops; :mod:`restyle.pipeline.decoding.sandbox` enforces the limits.

    Returns:
        At least one crop.

    Raises:
        RejectError: the file has no crops.
    """
    data, landmarks = file if isinstance(file, MarkedFile) else (file, b"")
    try:
        if settings.align and settings.has_landmarks:
            return _marked(data, landmarks, settings)
        return _aligned(data, settings) if settings.align else [_whole(data, settings.size)]
    except MemoryError as error:
        raise RejectError(
            RejectReason.TOO_LARGE, "decoding and alignment take more memory than one image may"
        ) from error


def _decoded(data: bytes) -> Decoded:
    """Decode at full size, in memory that holds a large photograph once when this returns."""
    # Imported late, because only the child process needs them.
    from restyle.core.devices.allocator import return_freed_memory
    from restyle.core.imaging.decoding import decode

    decoded = decode(data)
    if decoded.size[0] * decoded.size[1] > _LARGE:
        # The stored pixels have been freed, but Pillow's blocks are small enough to be kept.
        return_freed_memory()
    return decoded


def _aligned(data: bytes, settings: CropSettings) -> list[DecodedCrop]:
    from restyle.core.faces.alignment import Framing, align_faces

    framing = Framing(settings.framing_scale, settings.framing_shift)
    # Decoded at full scale: differences of one pixel move dlib's landmarks and the crop by one to
    # five pixels of 256, which changes the result by one to seven grey levels.
    decoded = _decoded(data)
    found = align_faces(
        decoded.image, settings.size[0], settings.faces, framing, detector=settings.detector
    )
    notes = ["; ".join(filter(None, [*decoded.notes, found[0].note]))] + [""] * (len(found) - 1)
    return [
        DecodedCrop(np.asarray(face.image), face.quad, note, face.detector)
        for face, note in zip(found, notes, strict=True)
    ]


def _marked(data: bytes, landmarks: bytes, settings: CropSettings) -> list[DecodedCrop]:
    from restyle.core.faces.alignment import Framing, crop_quad, given_quads
    from restyle.core.faces.anchors import ANCHORS

    decoded = _decoded(data)
    framing = Framing(settings.framing_scale, settings.framing_shift)
    anchors = np.frombuffer(landmarks, ANCHORS)
    found = given_quads(anchors, decoded.image.size, settings.faces, framing)
    notes = ["; ".join(decoded.notes)] + [""] * (len(found) - 1)
    crops = []
    for (_, quad), note in zip(found, notes, strict=True):
        exact = settings.detector == "exact"
        crop = crop_quad(decoded.image, quad, settings.size[0], exact=exact)
        crops.append(DecodedCrop(np.asarray(crop), quad, note, "given"))
    return crops


def _whole(data: bytes, size: tuple[int, int]) -> DecodedCrop:
    from restyle.core.imaging.decoding import decode

    # As in the published data loaders, the aspect ratio is not kept.
    decoded = decode(data, size[::-1])
    width, height = decoded.size
    # As in aligned quads, pixel centres have integer coordinates.
    right, bottom = width - 0.5, height - 0.5
    quad = np.array([(-0.5, -0.5), (-0.5, bottom), (right, bottom), (right, -0.5)])
    return DecodedCrop(np.asarray(decoded.image), quad, "; ".join(decoded.notes))
