"""Upright 8-bit sRGB pixels of a loaded picture of any mode, orientation and colour profile."""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image

from restyle.core.errors import RejectError, RejectReason, reason_of
from restyle.core.imaging import colour

_ORIENTATION_TAG = 0x0112

# Transposition that makes the stored picture upright, by EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

SIDEWAYS = frozenset(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))
"""Turns that exchange width and height."""

_SIXTEEN_BITS = 65535

_log = logging.getLogger(__name__)


def turned_upright(image: Image.Image, picture: Image.Image) -> Image.Image:
    """Turn a picture by the EXIF orientation of an image.

    Args:
        image: loaded image with metadata.
        picture: its pixels in any mode.
    """
    turn = turn_of(image)
    return picture if turn is None else picture.transpose(turn)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn a Pillow image by its EXIF orientation and convert it to 8-bit sRGB.

    Args:
        image: of any mode; its colour profile is applied, transparency is composed over white.

    Returns:
        An image of mode ``RGB`` without metadata; the argument itself when it is one already.

    Raises:
        RejectError: ``unsupported_mode`` for pixels that have no defined range or colour.
    """
    if image.mode == "RGB" and not image.info:
        return image
    if note := colour_problem(image):
        _log.warning("an image: %s", note)
    return turned_upright(image, to_rgb(image))


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """The turn that sets a picture upright by its EXIF orientation; None if it is."""
    return _UPRIGHT.get(_orientation(image))


def colour_problem(image: Image.Image) -> str:
    """A note if the colour profile cannot be applied, see :func:`colour.problem`; else empty."""
    return colour.problem(_colours(image), _profile(image))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # With damaged metadata the picture is taken as it is stored, as in every viewer.
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to a new image of mode RGB without metadata."""
    try:
        rgb = _converted(image)
    except (ValueError, KeyError) as error:
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            f"pixels of mode {image.mode} cannot become RGB ({reason_of(error)}); convert it",
        ) from error
    # Otherwise a receiver could apply the metadata a second time.
    rgb.info.clear()
    return rgb


def _converted(image: Image.Image) -> Image.Image:
    """Convert to a new image of mode RGB."""
    if image.mode == "F":
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            "floating-point pixels have no defined range; convert the image to 8 bits",
        )
    profile, gamma = _profile(image), _gamma(image)
    if image.mode == "RGB" and not (profile or gamma or image.has_transparency_data):
        # Not `copy`, which takes a fifth of the time of decoding. Nobody writes to the pixels, and
        # the image of the file is dropped.
        image.load()
        return image._new(image.im)
    rgb = colour.to_srgb(_colours(image), profile, gamma)
    if not image.has_transparency_data:
        return rgb
    rgb.putalpha(image.convert("RGBA").getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


def _colours(image: Image.Image) -> Image.Image:
    """The pixels without transparency in an 8-bit mode that profiles apply to."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_sixteen_bits(image)
    if image.mode in ("LA", "La"):
        return image.convert("LA").getchannel("L")
    if image.has_transparency_data:
        return image.convert("RGBA").convert("RGB")
    return image


def _profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else None


def _gamma(image: Image.Image) -> float | None:
    """Gamma of a PNG without a profile or sRGB chunk."""
    gamma = image.info.get("gamma")
    return gamma if isinstance(gamma, float) and "srgb" not in image.info else None


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's conversion would clip at 255."""
    grey = np.asarray(image).astype(np.int32, copy=False)
    if grey.min() < 0 or grey.max() > _SIXTEEN_BITS:
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            "32-bit pixels above the 16-bit range have no defined white; "
            "convert the image to 8 bits",
        )
    # Integer arithmetic takes half the memory, and 257 is odd, so there are no ties.
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))
