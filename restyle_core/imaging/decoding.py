"""Decoding: bytes from anywhere become an upright RGB image, or a reason why not."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from restyle.core.errors import RejectError, RejectReason

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

# A JPEG that is to become smaller is decoded at 1/2, 1/4 or 1/8 of its scale when its sides are
# still this many times the wanted ones then. Over photographs of 0.4 to 6 megapixels, qualities 75
# to 95 and results of 64 and 256 pixels a side the result differs by 0.1 to 0.6 grey levels on
# average; at 1.0 instead of 2.0 it would be up to 1.2.
_REDUCED_MARGIN = 2.0
_REDUCTIONS = (8, 4, 2)
_REDUCIBLE_FORMATS = frozenset({"JPEG", "MPO"})

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
_SIDEWAYS = frozenset(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))

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
        MemoryError: the process may have no more.
    """
    with _quiet():
        image = _open(data)
        _check_shape(image, max_pixels)
        _load(image)
        return upright_rgb(image)


def decode_resized(
    data: bytes, size: tuple[int, int], *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an image and squash it to a size, whatever its aspect.

    A JPEG that is much larger is decoded at a reduced scale, which takes a fraction of the time
    and changes a photograph's result by less than one grey level on average.

    Args:
        data: as for :func:`decode_image`.
        size: width and height of the result in pixels.
        max_pixels: as for :func:`decode_image`; of the image as it is stored.

    Returns:
        The result, bilinear and antialiased, and the upright image's own width and height.

    Raises:
        RejectError, MemoryError: as :func:`decode_image`.
    """
    with _quiet():
        image = _open(data)
        _check_shape(image, max_pixels)
        turn = _UPRIGHT.get(_orientation(image))
        upright = image.size if turn not in _SIDEWAYS else image.size[::-1]
        wanted = size if turn not in _SIDEWAYS else size[::-1]
        stored = image.size
        reduction = _reduction(image, wanted)
        if reduction == 1:
            _load(image)
            whole = upright_rgb(image)
            return _resized(whole, size, whole.size), upright
        image.draft(None, (stored[0] // reduction, stored[1] // reduction))
        _load(image)
        # The reduced picture is rounded up to whole pixels; what the last ones have too much lies
        # at an end that turning would move.
        extent = (stored[0] / reduction, stored[1] / reduction)
        result = _resized(_convert(image), wanted, extent)
        return (result if turn is None else result.transpose(turn)), upright


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
    rgb = _convert(image)
    return rgb if turn is None else rgb.transpose(turn)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata, which is ignored here, and of many pixels, for which
        # there is a limit of our own.
        warnings.simplefilter("ignore")
        yield


def _open(data: bytes) -> Image.Image:
    if not data:
        raise RejectError(RejectReason.EMPTY, "the file is empty")
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
    except MemoryError:
        raise
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


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except MemoryError:
        # Says nothing of the file; whoever limits memory knows what it means.
        raise
    except Exception as error:
        # Pillow's plugins raise nearly anything on damaged data (struct.error, zlib.error,
        # IndexError, ...); whatever it was, this file's pixels cannot be had.
        raise _truncated("the pixels cannot be read", error) from error


def _reduction(image: Image.Image, wanted: tuple[int, int]) -> int:
    """By how much an image may be reduced while it is decoded, 1 for not at all."""
    if image.format not in _REDUCIBLE_FORMATS:
        return 1
    ratio = min(image.width / wanted[0], image.height / wanted[1])
    return next((by for by in _REDUCTIONS if ratio >= by * _REDUCED_MARGIN), 1)


def _resized(image: Image.Image, size: tuple[int, int], extent: tuple[float, float]) -> Image.Image:
    if image.size == size == extent:
        return image
    return image.resize(size, Image.Resampling.BILINEAR, box=(0, 0, *extent))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # Damaged metadata says nothing about orientation, and the pixels are whole: like every
        # viewer, take the picture as it is stored.
        return 1


def _convert(image: Image.Image) -> Image.Image:
    """A new image of mode RGB without metadata."""
    try:
        rgb = _to_rgb(image)
    except (ValueError, KeyError) as error:
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            f"pixels of mode {image.mode} cannot become RGB ({_say(error)}); convert the image",
        ) from error
    # Metadata that stayed would be applied again by whoever receives the image.
    rgb.info.clear()
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    """A new image of mode RGB."""
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
    grey = np.asarray(image).astype(np.int32, copy=False)
    if grey.min() < 0 or grey.max() > _SIXTEEN_BITS:
        raise RejectError(
            RejectReason.UNSUPPORTED_MODE,
            "32-bit pixels above the 16-bit range have no defined white; "
            "convert the image to 8 bits",
        )
    # In whole numbers, which take half the memory: 257 is odd, so that no value lies half-way.
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")


def _truncated(what: str, error: Exception) -> RejectError:
    if isinstance(error, UnidentifiedImageError):
        return RejectError(RejectReason.TRUNCATED, what)  # its text is a memory address
    return RejectError(RejectReason.TRUNCATED, f"{what}: {_say(error)}")


def _say(error: Exception) -> str:
    """The error in one line; some of Pillow's say nothing but their type."""
    return " ".join(str(error).split()) or type(error).__name__
