"""What the name of a file tells: a picture, a shard, or neither; and whether a text is a path."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from restyle.pipeline.sources.formats.source_format import format_named

_RAW = (
    *("3fr", "ari", "arw", "bay", "cap", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr"),
    *("iiq", "k25", "kdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pef", "ptx", "r3d", "raf"),
    *("raw", "rw2", "rwl", "rwz", "sr2", "srf", "srw", "x3f"),
)
"""Extensions of cameras' raw files. They hold pictures, which are rejected with what to do."""

_OTHER_PICTURES = (*_RAW, "jxl", "heic", "heif", "exr", "hdr", "psb", "ktx", "ktx2", "dcm")

_DATA = frozenset({".bufr", ".grib", ".h5", ".hdf", ".iim", ".mpeg", ".mpg"})
"""Extensions that Pillow lists although they are of data, captions and films."""

_STARTS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://|/|\.\.?[/\\]|~/|\\\\|[A-Za-z]:[\\/]")
_LONGEST = 16
_LEAST_SHARE = 0.5


@functools.cache
def image_extensions() -> frozenset[str]:
    """Extensions, with the dot and in small letters, of the image formats that Pillow knows."""
    from PIL import Image

    from restyle.core.imaging.formats import readable

    opened = {*readable(), *Image.OPEN, "MPO"}
    of_formats = Image.registered_extensions()
    return frozenset(extension for extension, name in of_formats.items() if name in opened)


def extension_of(name: str) -> str:
    """The extension of a path or URI, with the dot and in small letters; empty without one.

    It ends at the first character that no extension has, as in ``a.jpg?width=3``. What is too long,
    or a number, is a part of the name.
    """
    stem, _, end = re.split(r"[/\\]", name)[-1].strip().rpartition(".")
    end = re.split(r"[^a-z0-9]", end.lower())[0]
    is_one = stem.strip(".") and len(end) < _LONGEST and re.search("[a-z]", end)
    return f".{end}" if is_one else ""


def is_picture(name: str) -> bool:
    """Whether a file is an image by its name, of whatever format, read here or not."""
    extension = extension_of(name)
    return extension in image_extensions() - _DATA or extension[1:] in _OTHER_PICTURES


def is_address(text: str) -> bool:
    """Whether a text begins as a path or address does, or ends as a picture or shard does."""
    text = text.strip()
    if _STARTS.match(text) or is_picture(text):
        return True
    named = format_named(text.encode("utf-8", "surrogatepass"))
    return named is not None and not named[0].only_as_input


def is_path(text: str) -> bool:
    """Whether a text is the path or address of a file by its looks: no caption, label or hash."""
    text = text.strip()
    if is_address(text):
        return True
    return not re.search(r"\s", text) and re.search(r"[^/\\][/\\][^/\\]", text) is not None


def are_paths(texts: Iterable[str | None]) -> bool:
    """Whether values of a column are paths or addresses: at least half of those that are not empty.

    Without any value nothing speaks against it.
    """
    found = [is_path(text) for text in texts if text and text.strip()]
    return sum(found) >= _LEAST_SHARE * len(found)
