"""How else a list may spell the name of a file that is there."""

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
# What Excel and older programs write where there is no mark of another encoding.
_ENCODINGS = ("cp1252", "latin-1")

WINDOWS = "a path of Windows, which this machine has not; write it as it is called here"


def is_null(text: str) -> bool:
    """Whether an entry is how a program writes that there is none."""
    return text.strip().lower() in _NULLS


def is_comment(text: str) -> bool:
    """Whether an entry is a remark, unless a file is called so."""
    return text.lstrip().startswith(_COMMENT)


def is_windows(path: str) -> bool:
    """Whether a path begins with a drive or a share of Windows."""
    return bool(_DRIVE.match(path.strip()) or _SHARE.match(path.strip()))


def unquoted(text: str) -> str:
    """An entry without blanks and quotes around it."""
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in _QUOTES:
        return text[1:-1].strip()
    return text


def spellings(path: str) -> Iterator[str]:
    """Other spellings of a path or name that is not there as it stands, likely ones first.

    Args:
        path: as the list has it; relative ones to the folder of the list.
    """
    path = unquoted(path)
    yield path
    yield unquote(path, errors="surrogateescape")
    for form in ("NFC", "NFD"):
        yield unicodedata.normalize(form, path)
    if drive := _DRIVE.match(path):
        # Where the Windows subsystem for Linux has them.
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
