"""Classify file names as pictures or shards, and texts as paths or other text."""

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
"""Extensions of camera raw files; they are pictures, but are rejected with advice."""

_OTHER_PICTURES = (*_RAW, "jxl", "heic", "heif", "exr", "hdr", "psb", "ktx", "ktx2", "dcm")

_DATA = frozenset({".bufr", ".grib", ".h5", ".hdf", ".iim", ".mpeg", ".mpg"})
"""Extensions of data, captions and films that Pillow lists as images."""

_STARTS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://|/|\.\.?[/\\]|~/|\\\\|[A-Za-z]:[\\/]")
_LONGEST = 16
_LEAST_SHARE = 0.5


@functools.cache
def image_extensions() -> frozenset[str]:
    """Return the lower-case extensions, with the dot, of the image formats that Pillow knows."""
    from PIL import Image

    from restyle.core.imaging.formats import readable

    opened = {*readable(), *Image.OPEN, "MPO"}
    of_formats = Image.registered_extensions()
    return frozenset(extension for extension, name in of_formats.items() if name in opened)


def extension_of(name: str) -> str:
    """Return the lower-case extension of a path or URI with the dot; empty without one.

    The extension ends at the first character that is not alphanumeric, as in ``a.jpg?width=3``. A
    suffix that is too long or numeric is part of the name.
    """
    stem, _, end = re.split(r"[/\\]", name)[-1].strip().rpartition(".")
    end = re.split(r"[^a-z0-9]", end.lower())[0]
    is_one = stem.strip(".") and len(end) < _LONGEST and re.search("[a-z]", end)
    return f".{end}" if is_one else ""


def is_picture(name: str) -> bool:
    """Return whether a file name is that of an image, including formats that cannot be read."""
    extension = extension_of(name)
    return extension in image_extensions() - _DATA or extension[1:] in _OTHER_PICTURES


def is_address(text: str) -> bool:
    """Return whether a text starts like a path or address, or ends like a picture or shard."""
    text = text.strip()
    if _STARTS.match(text) or is_picture(text):
        return True
    named = format_named(text.encode("utf-8", "surrogatepass"))
    return named is not None and not named[0].only_as_input


def is_path(text: str) -> bool:
    """Return whether a text looks like a path or address, not like a caption, label or hash."""
    text = text.strip()
    if is_address(text):
        return True
    return not re.search(r"\s", text) and re.search(r"[^/\\][/\\][^/\\]", text) is not None


def are_paths(texts: Iterable[str | None]) -> bool:
    """Return whether at least half of a column's non-empty values look like paths or addresses.

    Without any value, the result is True.
    """
    found = [is_path(text) for text in texts if text and text.strip()]
    return sum(found) >= _LEAST_SHARE * len(found)
