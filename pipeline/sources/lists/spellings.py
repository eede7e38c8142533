"""Alternative spellings by which a list may name an existing file."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

_DRIVE = re.compile(r"([A-Za-z]):[\\/](.*)", re.DOTALL)
_SHARE = re.compile(r"\\\\[^\\/]")
_QUOTES = "\"'"
_NULLS = frozenset({"null", "none", "nan", "na", "n/a", "<na>", "\\n", "nil"})
_COMMENT = "#"
# Encodings that Excel and older programs use for files without a byte order mark.
_ENCODINGS = ("cp1252", "latin-1")

WINDOWS = "a path of Windows, which this machine has not; write it as it is called here"


def is_null(text: str) -> bool:
    """Return whether an entry is a null value as programs write it."""
    return text.strip().lower() in _NULLS


def is_comment(text: str) -> bool:
    """Return whether an entry looks like a comment; a file may have such a name, too."""
    return text.lstrip().startswith(_COMMENT)


def is_windows(path: str) -> bool:
    """Return whether a path begins with a Windows drive or share."""
    return bool(_DRIVE.match(path.strip()) or _SHARE.match(path.strip()))


def unquoted(text: str) -> str:
    """Return an entry without surrounding whitespace and quotes."""
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in _QUOTES:
        return text[1:-1].strip()
    return text


def spellings(path: str) -> Iterator[str]:
    """Yield other spellings of a path that does not exist as written, the most likely first.

    Args:
        path: the path as written in the list; relative paths start at the folder of the list.
    """
    path = unquoted(path)
    yield path
    yield unquote(path, errors="surrogateescape")
    for form in ("NFC", "NFD"):
        yield unicodedata.normalize(form, path)
    if drive := _DRIVE.match(path):
        # Mount point of the drive in the Windows Subsystem for Linux.
        yield f"/mnt/{drive[1].lower()}/" + drive[2].replace("\\", "/")
    elif not _SHARE.match(path):
        yield path.replace("\\", "/")
    if path.startswith("~"):
        yield os.path.expanduser(path)  # noqa: PTH111 (it may be no path at all)
    raw = path.encode("utf-8", "surrogateescape")
    if not _is_utf_8(raw):
        for encoding in _ENCODINGS:
            yield raw.decode(encoding, "replace")


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
