"""Decoding of untrusted bytes into an upright sRGB image, or a reject reason."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from restyle.core.errors import RejectError, RejectReason, reason_of
from restyle.core.imaging.formats import (
    NAMES,
    begins_like_an_image,
    other_kind,
    raw_preview,
    readable,
)
from restyle.core.imaging.pages import choose_frame
from restyle.core.imaging.upright import SIDEWAYS, colour_problem, to_rgb, turn_of
from restyle.core.stage_clock import stage

MAX_PIXELS = 120_000_000
"""Images above this many pixels are rejected before any pixel is decoded (decompression bombs)."""

MIN_SIDE = 32
"""Images with a shorter side below this many pixels are rejected."""

# A JPEG is decoded at 1/2, 1/4 or 1/8 scale if its sides are then still at least this many times
# the requested ones. For photographs of 0.4 to 6 megapixels, qualities 75 to 95 and results of 64
# and 256 pixels the mean difference is 0.1 to 0.6 grey levels; a factor of 1.0 gives up to 1.2.
_REDUCED_MARGIN = 2.0
_REDUCTIONS = (8, 4, 2)
_REDUCIBLE_FORMATS = frozenset({"JPEG", "MPO"})


# Bits that a JPEG decoder reads as coefficients if some are missing. No byte is 0xff, the first
# byte of a marker.
_MORE_BITS = bytes(range(1, 255)) * 8
_JPEG_END = b"\xff\xd9"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded photograph.

    Attributes:
        image: upright, of mode ``RGB``, in sRGB, without metadata.
        size: width and height of the upright photograph, which may be larger than ``image``.
        notes: warnings for the user, a sentence each.
    """

    image: Image.Image
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an encoded image into upright 8-bit sRGB.

    EXIF orientation and colour profiles are applied. Grey, palette, CMYK and 16-bit images are
    converted; transparency is composed over white. Notes of :class:`Decoded` are logged.

    Args:
        data: the bytes of one image file, in one of :data:`restyle.core.imaging.formats.READ`.
        max_pixels: limit for width times height.

    Returns:
        An image of mode ``RGB`` without metadata.

    Raises:
        RejectError: ``empty``, ``not_an_image``, ``unsupported_format``, ``truncated``,
            ``too_large``, ``too_small``, ``animated`` or ``unsupported_mode``.
        MemoryError: the process's memory limit is reached.
    """
    decoded = decode(data, max_pixels=max_pixels)
    for note in decoded.notes:
        _log.warning("an image: %s", note)
    return decoded.image


def decode_resized(
    data: bytes, size: tuple[int, int], *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[int, int]]:
    """Image and size of :func:`decode`."""
    decoded = decode(data, size, max_pixels=max_pixels)
    return decoded.image, decoded.size


@stage("decode")
def decode(
    data: bytes, size: tuple[int, int] | None = None, *, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Decode an image as :func:`decode_image`, with notes, and optionally resize it.

    A much larger JPEG is decoded at a reduced scale, which takes a fraction of the time and changes
    a photograph's result by less than one grey level on average.

    Args:
        data: as for :func:`decode_image`.
        size: width and height of the result in pixels, without keeping the aspect ratio; bilinear
            and antialiased. The photograph's size when None.
        max_pixels: as for :func:`decode_image`; for the stored image.

    Raises:
        RejectError, MemoryError: as :func:`decode_image`.
    """
    with _quiet():
        image = open_image(data, max_pixels)
        turn = turn_of(image)
        upright = image.size if turn not in SIDEWAYS else image.size[::-1]
        wanted = size if size is None or turn not in SIDEWAYS else size[::-1]
        stored = image.size
        reduction = 1 if wanted is None else _reduction(image, wanted)
        image = _loaded(image, data, reduction)
        if reduction == 1:
            # Some formats have their orientation at the end of the file.
            turn = turn_of(image)
        notes = tuple(filter(None, [colour_problem(image)]))
        rgb = to_rgb(image)
        # A large photograph is turned below: only two copies of it fit into a worker's memory.
        del image
        if reduction > 1:
            assert wanted is not None  # noqa: S101 (it is what was reduced for)
            # The size of the reduced picture is rounded up. The extent excludes the surplus, which
            # is at the right and bottom only before turning.
            extent = (stored[0] / reduction, stored[1] / reduction)
            rgb = _resized(rgb, wanted, extent)
            return Decoded(rgb if turn is None else rgb.transpose(turn), upright, notes)
        rgb = rgb if turn is None else rgb.transpose(turn)
        return Decoded(rgb if size is None else _resized(rgb, size, rgb.size), rgb.size, notes)


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open a file and seek to its photograph, without decoding pixels.

    Raises:
        RejectError: as :func:`decode_image`.
    """
    image = _open(data)
    _check_shape(image, max_pixels)
    return image


def load_whole(image: Image.Image, data: bytes) -> Image.Image:
    """Load the pixels of an image from :func:`open_image`, at full size.

    Raises:
        RejectError: ``truncated``.
    """
    with _quiet():
        return _loaded(image, data, 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata, which is ignored, and of many pixels, which have a
        # limit.
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
        message = f"decoding refused: {reason_of(error)}"
        raise RejectError(RejectReason.TOO_LARGE, message) from error
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
        # In some formats counting reads the whole file.
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
    """Load the pixels of an image at scale 1/``reduction``."""
    try:
        _load(image, reduction)
    except RejectError:
        ended = _ended(data, reduction) if image.format == "JPEG" else None
        if ended is None:
            raise
        return ended
    return image


def _ended(data: bytes, reduction: int) -> Image.Image | None:
    """Decode a JPEG that lacks only its end marker; None if pixels are missing too.

    Decoders invent missing pixels. The file is decoded with an end marker, and again with random
    bits before the marker: if the pixels depend on those bits, some were missing.
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
        # Not a fault of the file; handled where memory is limited.
        raise
    except Exception as error:
        # Pillow's plugins raise nearly anything on damaged data (struct.error, zlib.error,
        # IndexError, ...).
        raise _truncated("the pixels cannot be read", error) from error


def _reduction(image: Image.Image, wanted: tuple[int, int]) -> int:
    """Factor by which an image is reduced while it is decoded, at least 1."""
    if image.format not in _REDUCIBLE_FORMATS:
        return 1
    ratio = min(image.width / wanted[0], image.height / wanted[1])
    return next((by for by in _REDUCTIONS if ratio >= by * _REDUCED_MARGIN), 1)


def _resized(image: Image.Image, size: tuple[int, int], extent: tuple[float, float]) -> Image.Image:
    if image.size == size == extent:
        return image
    return image.resize(size, Image.Resampling.BILINEAR, box=(0, 0, *extent))


def _truncated(what: str, error: Exception) -> RejectError:
    if isinstance(error, UnidentifiedImageError):
        return RejectError(RejectReason.TRUNCATED, what)  # its text is a memory address
    return RejectError(RejectReason.TRUNCATED, f"{what}: {reason_of(error)}")
