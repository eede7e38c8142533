"""What one file becomes: decoded, and its faces cut out or the whole of it squashed to size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from restyle.core.errors import RejectError, RejectReason

if TYPE_CHECKING:
    from restyle.core.networks.config import Domain

FACE_CROP = 256
"""Side of aligned crops in pixels; models that work at less reduce them themselves."""

TIME_LIMIT = 120
"""Seconds that one image may take."""

MEMORY_LIMIT = 4 * 2**30
"""Bytes that one image may take: twice what the largest that is decoded needs."""


@dataclass(frozen=True)
class CropSettings:
    """How an image becomes encoder input.

    Attributes:
        align: find faces and cut them out, or take the image whole.
        faces: which faces to keep.
        size: height and width of the result in pixels; square when faces are aligned.
        framing_scale: side of the domain's crop relative to the FFHQ quad.
        framing_shift: its displacement towards the chin, in units of the quad's side.
        time_limit: seconds one image may take.
        memory_limit: bytes one image may take.
    """

    align: bool
    faces: Literal["largest", "all"]
    size: tuple[int, int]
    framing_scale: float = 1.0
    framing_shift: float = 0.0
    time_limit: int = TIME_LIMIT
    memory_limit: int = MEMORY_LIMIT

    @classmethod
    def of(cls, domain: Domain, align: bool, faces: Literal["largest", "all"]) -> CropSettings:
        """What a model's domain asks for.

        Args:
            domain: of the model.
            align: as the attribute.
            faces: as the attribute.
        """
        return cls(
            align=align,
            faces=faces,
            size=(FACE_CROP, FACE_CROP) if align else domain.image_size,
            framing_scale=domain.framing_scale,
            framing_shift=domain.framing_shift,
        )


@dataclass(frozen=True, eq=False)
class CutOut:
    """One encoder input.

    Attributes:
        pixels: [h, w, 3] uint8 RGB.
        quad: [4, 2] float64 corners in pixels of the upright photo.
        note: what a person should know of how the file was read, at its first crop; mostly empty.
    """

    pixels: npt.NDArray[np.uint8]
    quad: npt.NDArray[np.float64]
    note: str = ""


def cut_out(data: bytes, settings: CropSettings) -> list[CutOut]:
    """Decode one file and cut its faces out, or squash it to size.

    Args:
        data: the file.
        settings: what to make of it; its limits are enforced by
            :mod:`restyle.pipeline.decoding.sandbox`.

    Returns:
        At least one.

    Raises:
        RejectError: the file gives none.
    """
    try:
        return _aligned(data, settings) if settings.align else [_whole(data, settings.size)]
    except MemoryError as error:
        raise RejectError(
            RejectReason.TOO_LARGE, "decoding and alignment take more memory than one image may"
        ) from error


def _aligned(data: bytes, settings: CropSettings) -> list[CutOut]:
    # Here, because only the child has to pay for these.
    from restyle.core.faces.alignment import Framing, align_faces
    from restyle.core.imaging.decoding import decode

    framing = Framing(settings.framing_scale, settings.framing_shift)
    # Never at a reduced scale: a pixel's difference moves dlib's landmarks, and with them the
    # crop, by one to five pixels of 256, which changes the result by one to seven grey levels.
    decoded = decode(data)
    found = align_faces(decoded.image, settings.size[0], settings.faces, framing)
    notes = ["; ".join(decoded.notes)] + [""] * (len(found) - 1)
    return [
        CutOut(np.asarray(face.image), face.quad, note)
        for face, note in zip(found, notes, strict=True)
    ]


def _whole(data: bytes, size: tuple[int, int]) -> CutOut:
    from restyle.core.imaging.decoding import decode

    # The published loaders resize to the encoder's size whatever the aspect.
    decoded = decode(data, size[::-1])
    width, height = decoded.size
    # In the convention of aligned quads, whose corners lie half a pixel further out.
    right, bottom = width - 0.5, height - 0.5
    quad = np.array([(-0.5, -0.5), (-0.5, bottom), (right, bottom), (right, -0.5)])
    return CutOut(np.asarray(decoded.image), quad, "; ".join(decoded.notes))
