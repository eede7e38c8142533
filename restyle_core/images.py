"""Decoding: bytes from anywhere become an upright RGB image, or a reason why not."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from restyle_core.errors import RejectError, RejectReason

MAX_PIXELS = 120_000_000
"""Images above this many pixels are rejected before any pixel is decoded (decompression bombs)."""

MIN_SIDE = 32
"""Images with a shorter side below this many pixels carry too little to invert."""

# Formats that hold several pictures of one scene; the first is the photograph itself.
_FIRST_FRAME_FORMATS = frozenset({"MPO"})


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an encoded image into upright 8-bit RGB.

    EXIF orientation is applied. Grey, palette, CMYK and 16-bit grey images are converted;
    transparency is composed over white.

    Args:
        data: the bytes of one image file, in any format Pillow reads.
        max_pixels: the largest width times height that will be decoded.

    Returns:
        An image of mode ``RGB``.

    Raises:
        RejectError: ``empty``, ``not_an_image``, ``truncated``, ``too_large``, ``too_small``,
            ``animated`` or ``unsupported_mode``.
    """
    if not data:
        raise RejectError(RejectReason.EMPTY, "the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns at a pixel count of its own; ours is checked right below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise RejectError(RejectReason.TOO_LARGE, f"decoding refused: {error}") from error
    except UnidentifiedImageError as error:
        raise RejectError(
            RejectReason.NOT_AN_IMAGE, "no image format that Pillow knows matches these bytes"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise RejectError(RejectReason.TRUNCATED, f"the header cannot be read: {error}") from error
    _check_shape(image, max_pixels)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
    except Exception as error:
        # Pillow's plugins raise nearly anything on damaged data (struct.error, zlib.error,
        # IndexError, ...); whatever it was, this file's pixels cannot be had.
        raise RejectError(RejectReason.TRUNCATED, f"the pixels cannot be read: {error}") from error
    return _to_rgb(upright)


def _check_shape(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise RejectError(
            RejectReason.TOO_LARGE,
            f"{width}x{height} is more than the limit of {max_pixels:,} pixels",
        )
    if min(width, height) < MIN_SIDE:
        raise RejectError(
            RejectReason.TOO_SMALL,
            f"{width}x{height} is below the least side of {MIN_SIDE} pixels",
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _FIRST_FRAME_FORMATS:
        raise RejectError(
            RejectReason.ANIMATED, f"{frames} frames or pages; extract the one to invert"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling.
        grey = np.asarray(image).astype(np.float64) / 257.0
        return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            "floating-point pixels have no defined range; convert the image to 8 bits",
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
