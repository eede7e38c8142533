"""Supported image formats, and recognition of other files."""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass

from PIL import Image

from restyle.core.errors import RejectReason
from restyle.core.imaging.ifd import read_ifd
from restyle.core.stand_ins import HEAD, STAND_INS

READ = (
    "AVIF",
    "BMP",
    "GIF",
    "HEIF",
    "JPEG",
    "JPEG2000",
    "PNG",
    "PPM",
    "PSD",
    "QOI",
    "TIFF",
    "WEBP",
)
"""Supported formats of Pillow. The others are not photographs, start other programs (EPS runs
Ghostscript), or have no signature, so that any bytes could be taken for one (TGA, PCX)."""

NAMES = "JPEG, PNG, WebP, HEIC, AVIF, GIF, TIFF, BMP, JPEG 2000, PNM, PSD, QOI"
"""Supported formats in messages."""

_JXL_PLUGIN = "pillow_jxl"

# A file with one of these signatures that cannot be read is a damaged image.
_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II\*\x00|MM\x00\*|8BPS"
    rb"|....ftyp(?:avi[fs]|hei[cxms]|hev[cxms]|mif[12]|msf1)"
    rb"|qoif|\x00\x00\x00\x0cjP  \r\n|\xff\x4f\xff\x51",
    re.DOTALL,
)


@dataclass(frozen=True)
class OtherKind:
    """A kind of file that cannot be read.

    Attributes:
        name: description with a remedy.
        reason: ``unsupported_format`` if the file holds a picture.
    """

    name: str
    reason: RejectReason = RejectReason.UNSUPPORTED_FORMAT

    def __str__(self) -> str:
        return self.name


def _no_image(name: str) -> OtherKind:
    return OtherKind(name, RejectReason.NOT_AN_IMAGE)


_CAMERA = OtherKind(
    "a raw file of a camera; develop it (darktable, RawTherapee), or take the JPEG out of it "
    "(exiftool -b -PreviewImage)"
)
_VIDEO = _no_image("a video; take the frame out of it (ffmpeg -i FILE -frames:v 1 frame.png)")
_ARCHIVE = _no_image("a packed archive; unpack it, or pack its images into a tar")
_DRAWING = _no_image("a drawing; render it as PNG")
_UNCOMMON = OtherKind("an image of a format that is not read; convert it to PNG or JPEG")

_OTHERS: tuple[tuple[bytes, OtherKind], ...] = (
    (
        rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n",
        OtherKind("JPEG XL, which needs a plugin: pip install pillow-jxl-plugin"),
    ),
    (rb"\s*%PDF-", _no_image("a PDF document; take the pictures out of it (pdfimages -all)")),
    (rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE svg[^>]*>\s*)?<svg\b", _DRAWING),
    *((begin, _no_image(what)) for begin, what in STAND_INS),
    (rb"II\*\x00....CR|....ftypcrx |II(?:RO|RS|U)\x00?|MMOR|FUJIFILMCCD-RAW", _CAMERA),
    (rb"II.{4}HEAPCCDR|FOVb|\x00MRM", _CAMERA),
    (rb"....ftyp(?:qt  |isom|iso[2-9]|mp4[12]|avc1|M4V |3gp|MSNV)|....(?:moov|mdat)", _VIDEO),
    (rb"\x1aE\xdf\xa3|RIFF....AVI |\x00\x00\x01[\xb3\xba]|FLV\x01", _VIDEO),
    (
        rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd",
        _ARCHIVE,
    ),
    (rb"%!PS|\xc5\xd0\xd3\xc6", _DRAWING),
    (rb"8BPB|v/1\x01|#\?RADIANCE|SIMPLE  =|\x00\x00\x01\x00|.{128}DICM|DDS |\xabKTX", _UNCOMMON),
)
_KINDS = tuple((re.compile(b"(?:" + begin + b")", re.DOTALL | re.IGNORECASE), what)
               for begin, what in _OTHERS)  # fmt: skip

# Fields that identify a raw file (TIFF 6.0, TIFF/EP and DNG 1.7).
_SUBFILE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 262, 330, 50706
_SENSOR = (32803, 34892)
"""Photometric interpretations of sensor values: colour filter array, linear raw."""


@functools.cache
def readable() -> tuple[str, ...]:
    """Register the plugins and return all readable formats in Pillow's names."""
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    Image.init()
    try:
        importlib.import_module(_JXL_PLUGIN)
    except ImportError:
        return READ
    return (*READ, "JXL")


def begins_like_an_image(data: bytes) -> bool:
    """Whether a file has the signature of a supported format."""
    return _SIGNATURE.match(data) is not None


def other_kind(data: bytes) -> OtherKind | None:
    """The kind of a file that is not a supported image; None if unknown."""
    head = data[:HEAD]
    return next((kind for begin, kind in _KINDS if begin.match(head)), None)


def raw_preview(data: bytes) -> OtherKind | None:
    """Recognise a camera's raw file in TIFF layout; None for any other file.

    Such a file starts with a small preview, which must not be taken for the photograph.
    """
    if not data.startswith((b"II*\x00", b"MM\x00*")):
        return None
    fields = read_ifd(data)
    is_sensor = fields.get(_PHOTOMETRIC) in _SENSOR or _DNG_VERSION in fields
    is_preview = fields.get(_SUBFILE, 0) & 1 and _SUB_IFDS in fields
    return _CAMERA if is_sensor or is_preview or data[8:10] == b"CR" else None
