"""Decoding: bytes from anywhere become an upright sRGB image, or a reason why not."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from restyle.core.errors import RejectError, RejectReason
from restyle.core.imaging import colour
from restyle.core.imaging.formats import (
    NAMES,
    begins_like_an_image,
    other_kind,
    raw_preview,
    readable,
)
from restyle.core.imaging.pages import choose_frame

MAX_PIXELS = 120_000_000
"""Images above this many pixels are rejected before any pixel is decoded (decompression bombs)."""

MIN_SIDE = 32
"""Images with a shorter side below this many pixels carry too little to invert."""

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

# Bits that a decoder of a JPEG takes for coefficients if it still expects some. No byte is 0xff,
# which would begin a marker.
_MORE_BITS = bytes(range(1, 255)) * 8
_JPEG_END = b"\xff\xd9"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A file's photograph.

    Attributes:
        image: upright, of mode ``RGB``, in sRGB, without metadata.
        size: width and height of the upright photograph, which may be larger than ``image``.
        notes: what a person should know of how it was read, a sentence each.
    """

    image: Image.Image
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an encoded image into upright 8-bit sRGB.

    EXIF orientation and colour profiles are applied. Grey, palette, CMYK and 16-bit images are
    converted; transparency is composed over white. What :class:`Decoded` has notes of is logged.

    Args:
        data: the bytes of one image file, in one of :data:`restyle.core.imaging.formats.READ`.
        max_pixels: the largest width times height that will be decoded.

    Returns:
        An image of mode ``RGB`` that keeps nothing of the file's metadata.

    Raises:
        RejectError: ``empty``, ``not_an_image``, ``unsupported_format``, ``truncated``,
            ``too_large``, ``too_small``, ``animated`` or ``unsupported_mode``; nothing else,
            whatever the bytes are.
        MemoryError: the process may have no more.
    """
    decoded = decode(data, max_pixels=max_pixels)
    for note in decoded.notes:
        _log.warning("an image: %s", note)
    return decoded.image


def decode_resized(
    data: bytes, size: tuple[int, int], *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[int, int]]:
    """The image and the size of :func:`decode`, which says the rest."""
    decoded = decode(data, size, max_pixels=max_pixels)
    return decoded.image, decoded.size


def decode(
    data: bytes, size: tuple[int, int] | None = None, *, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Decode an image as :func:`decode_image` does, with notes, and squash it to a size if asked.

    A JPEG that is much larger is decoded at a reduced scale, which takes a fraction of the time
    and changes a photograph's result by less than one grey level on average.

    Args:
        data: as for :func:`decode_image`.
        size: width and height of the result in pixels, whatever the aspect; bilinear and
            antialiased. The photograph's own when None.
        max_pixels: as for :func:`decode_image`; of the image as it is stored.

    Raises:
        RejectError, MemoryError: as :func:`decode_image`.
    """
    with _quiet():
        image = open_image(data, max_pixels)
        turn = _UPRIGHT.get(_orientation(image))
        upright = image.size if turn not in _SIDEWAYS else image.size[::-1]
        wanted = size if size is None or turn not in _SIDEWAYS else size[::-1]
        stored = image.size
        reduction = 1 if wanted is None else _reduction(image, wanted)
        image = _loaded(image, data, reduction)
        if reduction == 1:
            # Some formats tell of orientation only once they are read to the end.
            turn = _UPRIGHT.get(_orientation(image))
        notes = tuple(filter(None, [colour.problem(_colours(image), _profile(image))]))
        rgb = _convert(image)
        if reduction > 1:
            assert wanted is not None  # noqa: S101 (it is what was reduced for)
            # The reduced picture is rounded up to whole pixels; what the last ones have too much
            # lies at an end that turning would move.
            extent = (stored[0] / reduction, stored[1] / reduction)
            rgb = _resized(rgb, wanted, extent)
            return Decoded(rgb if turn is None else rgb.transpose(turn), upright, notes)
        rgb = rgb if turn is None else rgb.transpose(turn)
        return Decoded(rgb if size is None else _resized(rgb, size, rgb.size), rgb.size, notes)


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open a file and go to its photograph; no pixel is decoded.

    Raises:
        RejectError: as :func:`decode_image`.
    """
    image = _open(data)
    _check_shape(image, max_pixels)
    return image


def load_whole(image: Image.Image, data: bytes) -> Image.Image:
    """The pixels of an image that :func:`open_image` opened, at full size.

    Raises:
        RejectError: ``truncated``.
    """
    with _quiet():
        return _loaded(image, data, 1)


def turned_upright(image: Image.Image, picture: Image.Image) -> Image.Image:
    """A picture turned the way the EXIF orientation of an image asks.

    Args:
        image: loaded, with its metadata.
        picture: its pixels in any mode.
    """
    turn = _UPRIGHT.get(_orientation(image))
    return picture if turn is None else picture.transpose(turn)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn a Pillow image the way its EXIF orientation asks and convert it to 8-bit sRGB.

    Args:
        image: of any mode; its colour profile is applied, transparency is composed over white.

    Returns:
        An image of mode ``RGB`` without metadata; the argument itself when it is one already.

    Raises:
        RejectError: ``unsupported_mode`` for pixels that have no defined range or colour.
    """
    if image.mode == "RGB" and not image.info:
        return image
    if note := colour.problem(_colours(image), _profile(image)):
        _log.warning("an image: %s", note)
    return turned_upright(image, _convert(image))


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
        if kind := raw_preview(data):
            raise RejectError(RejectReason.UNSUPPORTED_FORMAT, f"this is {kind}")
        return Image.open(io.BytesIO(data), formats=readable())
    except Image.DecompressionBombError as error:
        raise RejectError(RejectReason.TOO_LARGE, f"decoding refused: {_say(error)}") from error
    except UnidentifiedImageError as error:
        if kind := other_kind(data):
            raise RejectError(kind.reason, f"this is {kind}") from error
        if begins_like_an_image(data):
            raise _truncated(
                "it begins like an image, but the header cannot be read", error
            ) from error
        raise RejectError(
            RejectReason.NOT_AN_IMAGE,
            f"these bytes begin like no image format that is read here ({NAMES})",
        ) from error
    except (MemoryError, RejectError):
        raise
    except Exception as error:
        raise _truncated("the header cannot be read", error) from error


def _check_shape(image: Image.Image, max_pixels: int) -> None:
    _check_pixels(image, max_pixels)
    try:
        frames = choose_frame(image)
    except MemoryError:
        raise
    except Exception as error:
        # Counting walks through the whole file in some formats.
        raise _truncated("the frames cannot be counted", error) from error
    if frames > 1:
        raise RejectError(
            RejectReason.ANIMATED, f"{frames} frames or pages; extract the one to invert"
        )
    _check_pixels(image, max_pixels)
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise RejectError(
            RejectReason.TOO_SMALL,
            f"{width}x{height} is below the least side of {MIN_SIDE} pixels",
        )


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise RejectError(
            RejectReason.TOO_LARGE,
            f"{width}x{height} is more than the limit of {max_pixels:,} pixels",
        )


def _loaded(image: Image.Image, data: bytes, reduction: int) -> Image.Image:
    """The image with its pixels, at 1/``reduction`` of its scale."""
    try:
        _load(image, reduction)
    except RejectError:
        ended = _ended(data, reduction) if image.format == "JPEG" else None
        if ended is None:
            raise
        return ended
    return image


def _ended(data: bytes, reduction: int) -> Image.Image | None:
    """A JPEG that lacks nothing but the marker at its end; None where pixels are missing too.

    A decoder makes up what is missing. So it gets an end, and once more with other bits before it:
    where the pixels depend on these, some were still to come.
    """
    made = []
    for more in (b"", _MORE_BITS):
        image = _open(data.removesuffix(b"\xff") + more + _JPEG_END)
        try:
            _load(image, reduction)
        except RejectError:
            return None
        made.append(image)
    one, other = map(np.asarray, made)
    return made[0] if np.array_equal(one, other) else None


def _load(image: Image.Image, reduction: int = 1) -> None:
    try:
        if reduction > 1:
            image.draft(None, (image.width // reduction, image.height // reduction))
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
    profile, gamma = _profile(image), _gamma(image)
    rgb = colour.to_srgb(_colours(image), profile, gamma)
    if not image.has_transparency_data:
        return rgb
    rgb.putalpha(image.convert("RGBA").getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


def _colours(image: Image.Image) -> Image.Image:
    """The pixels without transparency, in a mode of eight bits that profiles describe."""
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
    """Of a PNG that names its encoding by nothing better."""
    gamma = image.info.get("gamma")
    return gamma if isinstance(gamma, float) and "srgb" not in image.info else None


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
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))


def _truncated(what: str, error: Exception) -> RejectError:
    if isinstance(error, UnidentifiedImageError):
        return RejectError(RejectReason.TRUNCATED, what)  # its text is a memory address
    return RejectError(RejectReason.TRUNCATED, f"{what}: {_say(error)}")


def _say(error: Exception) -> str:
    """The error in one line; some of Pillow's say nothing but their type."""
    return " ".join(str(error).split()) or type(error).__name__
