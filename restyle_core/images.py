"""Decoding: bytes from anywhere become an upright RGB image, or a reason why not."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from restyle_core.errors import RejectError, RejectReason

MAX_PIXELS = 120_000_000
"""Images above this many pixels are rejected before any pixel is decoded (decompression bombs)."""

MIN_SIDE = 32
"""Images with a shorter side below this many pixels carry too little to invert."""

FORMATS = (
    "AVIF",
    "BMP",
    "GIF",
    "JPEG",
    "JPEG2000",
    "PNG",
    "PPM",
    "PSD",
    "QOI",
    "TIFF",
    "WEBP",
)
"""Pillow's formats that are read. The others are no photographs, start other programs (EPS runs
Ghostscript), or have no signature, so that any bytes could pass for one (TGA, PCX)."""

# Formats that hold several pictures of one scene; the first is the photograph itself.
_FIRST_FRAME_FORMATS = frozenset({"MPO", "PSD"})

_ORIENTATION_TAG = 0x0112

# EXIF orientation -> what makes the stored picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIXTEEN_BITS = 65535

# Whoever begins like this is a damaged image and not some other file.
_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II\*\x00|MM\x00\*|....ftypavi[fs]|8BPS"
    rb"|qoif|\x00\x00\x00\x0cjP  \r\n|\xff\x4f\xff\x51",
    re.DOTALL,
)


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an encoded image into upright 8-bit RGB.

    EXIF orientation is applied. Grey, palette, CMYK and 16-bit images are converted; transparency
    is composed over white.

    Args:
        data: the bytes of one image file, in one of :data:`FORMATS`.
        max_pixels: the largest width times height that will be decoded.

    Returns:
        An image of mode ``RGB`` that keeps nothing of the file's metadata.

    Raises:
        RejectError: ``empty``, ``not_an_image``, ``truncated``, ``too_large``, ``too_small``,
            ``animated`` or ``unsupported_mode``; nothing else, whatever the bytes are.
    """
    if not data:
        raise RejectError(RejectReason.EMPTY, "the file is empty")
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata, which is ignored here, and of many pixels, for which
        # there is a limit of our own.
        warnings.simplefilter("ignore")
        image = _open(data)
        _check_shape(image, max_pixels)
        try:
            image.load()
        except Exception as error:
            # Pillow's plugins raise nearly anything on damaged data (struct.error, zlib.error,
            # IndexError, ...); whatever it was, this file's pixels cannot be had.
            raise _truncated("the pixels cannot be read", error) from error
        return upright_rgb(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn a Pillow image the way its EXIF orientation asks and convert it to 8-bit RGB.

    Args:
        image: of any mode; transparency is composed over white.

    Returns:
        An image of mode ``RGB`` without metadata; the argument itself when it is one already.

    Raises:
        RejectError: ``unsupported_mode`` for pixels that have no defined range or colour.
    """
    if image.mode == "RGB" and not image.info:
        return image
    turn = _UPRIGHT.get(_orientation(image))
    try:
        rgb = _to_rgb(image)
    except (ValueError, KeyError) as error:
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            f"pixels of mode {image.mode} cannot become RGB ({_say(error)}); convert the image",
        ) from error
    upright = rgb.copy() if turn is None else rgb.transpose(turn)
    # Metadata that stayed would be applied again by whoever receives the image.
    upright.info.clear()
    return upright


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise RejectError(RejectReason.TOO_LARGE, f"decoding refused: {_say(error)}") from error
    except UnidentifiedImageError as error:
        if _SIGNATURE.match(data):
            raise _truncated(
                "it begins like an image, but the header cannot be read", error
            ) from error
        raise RejectError(
            RejectReason.NOT_AN_IMAGE,
            "these bytes begin like no image format that is read here "
            "(JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, JPEG 2000, PNM, PSD, QOI)",
        ) from error
    except Exception as error:
        raise _truncated("the header cannot be read", error) from error


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
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception as error:
        # Counting walks through the whole file in some formats.
        raise _truncated("the frames cannot be counted", error) from error
    if frames > 1 and image.format not in _FIRST_FRAME_FORMATS:
        raise RejectError(
            RejectReason.ANIMATED, f"{frames} frames or pages; extract the one to invert"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # Damaged metadata says nothing about orientation, and the pixels are whole: like every
        # viewer, take the picture as it is stored.
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            "floating-point pixels have no defined range; convert the image to 8 bits",
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_sixteen_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, scaled: Pillow's own conversion clips at 255 instead."""
    grey = np.asarray(image).astype(np.float64)
    if grey.min() < 0 or grey.max() > _SIXTEEN_BITS:
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            "32-bit pixels above the 16-bit range have no defined white; "
            "convert the image to 8 bits",
        )
    return Image.fromarray(np.rint(grey / 257).astype(np.uint8)).convert("RGB")


def _truncated(what: str, error: Exception) -> RejectError:
    if isinstance(error, UnidentifiedImageError):
        return RejectError(RejectReason.TRUNCATED, what)  # its text is a memory address
    return RejectError(RejectReason.TRUNCATED, f"{what}: {_say(error)}")


def _say(error: Exception) -> str:
    """The error in one line; some of Pillow's say nothing but their type."""
    return " ".join(str(error).split()) or type(error).__name__
