"""The published recipe as its programs run it, to compare with: dlib on the whole photograph."""

from __future__ import annotations

import numpy as np

from restyle.core.errors import RejectError, RejectReason
from restyle.core.faces.alignment import Framing, crop_quad, face_quad
from restyle.core.faces.hog.filters import frontal_detector
from restyle.core.faces.landmarks import landmarks_in
from restyle.core.imaging.decoding import decode
from restyle.core.stage_clock import stage
from restyle.pipeline.decoding.crops import CropSettings, DecodedCrop

_UPSAMPLED = 1


def published_crops(data: bytes, settings: CropSettings) -> list[DecodedCrop]:
    """Crop faces as :func:`restyle.pipeline.decoding.crops.read_crops`, by dlib alone.

    The detector takes about 240 bytes of memory for each pixel of the photograph, and the time that
    every level of its pyramid takes at full size.

    Raises:
        RejectError: as ``read_crops``.
    """
    image = decode(data).image
    with stage("detect"):
        found, _, _ = frontal_detector().run(np.asarray(image), _UPSAMPLED, 0.0)
    boxes = [(box.left(), box.top(), box.right(), box.bottom()) for box in found]
    if not boxes:
        raise RejectError(RejectReason.NO_FACE, "dlib's frontal detector finds no face")
    boxes.sort(key=lambda box: (-(box[2] - box[0]) * (box[3] - box[1]), box))
    crops = []
    for box in boxes[: 1 if settings.faces == "largest" else None]:
        with stage("landmarks"):
            points = landmarks_in(image, box)
        quad = face_quad(points, Framing(settings.framing_scale, settings.framing_shift))
        crops.append(DecodedCrop(np.asarray(crop_quad(image, quad, settings.size[0])), quad))
    return crops
