"""EXIF of a photograph for a picture that was made from it: upright, and with its own thumbnail.

A picture that is stored upright must not be turned again, and the thumbnail of the old one would
show a face that was edited away.
"""

from __future__ import annotations

import contextlib
import io

from PIL import ExifTags, Image

from restyle.core.imaging.ifd import Directories, Field

_HEADER = b"Exif\0\0"
_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
_WIDTH, _HEIGHT = 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_THUMBNAIL_SIDE = 160

# Of a TIFF file, whose own first directory also says how its pixels are stored.
_DESCRIPTIVE = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model),
    *(ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist),
    ExifTags.Base.Copyright,
)


def exif_of(image: Image.Image) -> bytes:
    """The EXIF block of a loaded image, beginning with its TIFF header; empty without one."""
    block = image.info.get("exif", b"")
    if isinstance(block, bytes) and block:
        return block.removeprefix(_HEADER)
    with contextlib.suppress(Exception):
        # Damaged metadata raises nearly anything, and is no reason to lose the picture.
        found = image.getexif()
        if image.format == "TIFF":
            kept = Image.Exif()
            kept.update({tag: found[tag] for tag in _DESCRIPTIVE if tag in found})
            for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                kept.get_ifd(ifd).update(found.get_ifd(ifd))
            found = kept
        return found.tobytes().removeprefix(_HEADER) if len(found) else b""
    return b""


def for_picture(block: bytes, picture: Image.Image, *, is_new: bool) -> bytes:
    """Fit an EXIF block to a picture that stands upright.

    Args:
        block: as :func:`exif_of` gives it.
        picture: RGB.
        is_new: it shows something else than the photograph, so that the thumbnail does too.

    Returns:
        The block with orientation 1, the picture's size and a thumbnail of it if there was one;
        empty where the block is damaged.
    """
    changed = bytearray(block)
    try:
        directories = Directories(changed)
        first, second_at = directories.fields(directories.first)
        second, _ = directories.fields(second_at) if second_at else ({}, 0)
        turned = _turn_off(directories, first) | _turn_off(directories, second)
        if _EXIF_IFD in first:
            fields, _ = directories.fields(first[_EXIF_IFD].value)
            for tag, side in zip((_WIDTH, _HEIGHT), picture.size, strict=True):
                if tag in fields:
                    directories.change(fields[tag], side)
        if turned or is_new:
            _renew_thumbnail(directories, changed, second, picture)
    except ValueError:
        return b""
    return bytes(changed)


def _turn_off(directories: Directories, fields: dict[int, Field]) -> bool:
    field = fields.get(_ORIENTATION)
    if field is None or field.value == 1:
        return False
    directories.change(field, 1)
    return True


def _renew_thumbnail(
    directories: Directories, block: bytearray, fields: dict[int, Field], picture: Image.Image
) -> None:
    if _THUMBNAIL not in fields or _THUMBNAIL_BYTES not in fields:
        return
    at, length = fields[_THUMBNAIL].value, fields[_THUMBNAIL_BYTES].value
    old = bytes(block[at : at + length])
    side = _THUMBNAIL_SIDE
    with contextlib.suppress(Exception), Image.open(io.BytesIO(old), formats=("JPEG",)) as shown:
        side = max(shown.size)
    small = picture.copy()
    small.thumbnail((side, side))
    new = io.BytesIO()
    small.save(new, "JPEG", quality=85)
    # What it showed is gone, wherever the new one is.
    block[at : at + length] = bytes(len(old))
    if new.tell() > len(old):
        at = len(block)
        block += new.getvalue()
    else:
        block[at : at + new.tell()] = new.getvalue()
    directories.change(fields[_THUMBNAIL], at)
    directories.change(fields[_THUMBNAIL_BYTES], new.tell())
