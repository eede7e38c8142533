"""Transfer of EXIF from a photograph to an edited picture.

The picture is stored upright, so its orientation becomes 1. The thumbnail is replaced, because the
old one shows the original face.
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

# Tags taken from a TIFF file, whose first directory also describes the storage of its pixels.
_DESCRIPTIVE = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model),
    *(ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist),
    ExifTags.Base.Copyright,
)


def exif_of(image: Image.Image) -> bytes:
    """The EXIF block of a loaded image from its TIFF header on; empty without one."""
    block = image.info.get("exif", b"")
    if isinstance(block, bytes) and block:
        return block.removeprefix(_HEADER)
    with contextlib.suppress(Exception):
        # Damaged metadata raises nearly anything; the picture is still usable.
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
    """Adapt an EXIF block to an upright picture.

    Args:
        block: from :func:`exif_of`.
        picture: RGB.
        is_new: whether the picture differs from the photograph, so that the thumbnail is replaced.

    Returns:
        The block with orientation 1, the picture's size and its thumbnail if there was one; empty
        if the block is damaged.
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
    # The old thumbnail is erased in any case.
    block[at : at + length] = bytes(len(old))
    if new.tell() > len(old):
        at = len(block)
        block += new.getvalue()
    else:
        block[at : at + new.tell()] = new.getvalue()
    directories.change(fields[_THUMBNAIL], at)
    directories.change(fields[_THUMBNAIL_BYTES], new.tell())
