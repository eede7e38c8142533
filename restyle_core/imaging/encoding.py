"""Encoding of reconstructions in the formats that an output may keep."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

ImageFormat = Literal["png", "jpeg", "webp"]
"""``png`` is lossless; ``jpeg`` takes a third, ``webp`` an eighth of its bytes at 1024 x 1024."""

# Faces of 1024 x 1024 differ by 0.4 (JPEG) and 0.8 (WebP) grey levels on average. Chroma of JPEG
# is not subsampled, as eyes and lips are small and coloured. WebP's method 0 takes a quarter of the
# default's time for a file of the same size.
_OPTIONS: dict[ImageFormat, dict[str, Any]] = {
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
    "webp": {"quality": 95, "method": 0},
}


def encode_image(pixels: npt.NDArray[np.uint8], image_format: ImageFormat = "png") -> bytes:
    """Encode a picture.

    Args:
        pixels: [h, w, 3] RGB, uint8, not empty.
        image_format: of the file.
    """
    # Imported late, since settings need only the names of the formats.
    if image_format == "png":
        from restyle.core.imaging.png import encode_png

        return encode_png(pixels)
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, **_OPTIONS[image_format])
    return file.getvalue()
