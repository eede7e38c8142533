"""Stand-ins: what servers and version control leave in place of a file that they do not give."""

from __future__ import annotations

import re

STAND_INS: tuple[tuple[bytes, str], ...] = (
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "a Git LFS pointer in place of the file; run `git lfs pull` where it came from",
    ),
    (
        rb"(?:\.\./)*(?:\.git)?/annex/objects/",
        "a git-annex pointer in place of the file; run `git annex get`",
    ),
    (
        rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b",
        "an HTML page, as a server sends in place of a file that it does not give; "
        "download it again",
    ),
    (rb"\s*<\?xml", "an XML document, perhaps a store's error; download it again"),
    (rb'\s*\{\s*"', "JSON text, perhaps a server's error; download it again"),
)
"""How each begins, as a pattern in which case and line breaks mean nothing, and what it is."""

HEAD = 1024
"""Bytes of a file that tell."""

_KINDS = tuple((re.compile(begin, re.DOTALL | re.IGNORECASE), what) for begin, what in STAND_INS)


def stand_in(head: bytes) -> str:
    """What a file is by its first bytes, and what to do; empty if it is no stand-in."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    return next((what for begin, what in _KINDS if begin.match(head)), "")
