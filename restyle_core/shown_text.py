"""Foreign text as a person may see it: names of files, columns and models, messages of servers.

The one place that escapes. Consoles, error lines and templates call :func:`visible` on everything,
so that no text can move the cursor, colour or rename a terminal, hide, or run backwards.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LINES = re.compile(r"[^\n\t]+")
# What does not fit into UTF-8, and what would end or move a line besides.
_SURROGATES = re.compile("[\ud800-\udfff]")
_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Text on one line with control, direction and invisible characters written as escapes.

    Args:
        text: any; lone surrogates, as Python spells bytes that are no UTF-8, become ``\xNN``.

    Returns:
        What UTF-8 can encode and a terminal prints as it stands: ``\n``, ``\x1b``, ``\u202e``.
    """
    if text.isprintable():
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in _HIDDEN else character
        for character in text
    )


def visible_lines(text: str) -> str:
    """As :func:`visible`, for text of several lines: line feeds and tabs stay."""
    return _LINES.sub(lambda match: visible(match.group()), text.replace("\r\n", "\n"))


def visible_strings(value: Any) -> Any:
    """A value of JSON with every string in it made :func:`visible`, keys included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible_strings(key): visible_strings(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [visible_strings(each) for each in value]
    return value


def recorded(name: str) -> str:
    r"""A name as datasets hold it: one line of UTF-8, and otherwise as its file is called.

    Only control characters, line breaks and bytes that are no UTF-8 are escaped, so that rows can
    be joined to files by name; :func:`visible` is for what a person sees.
    """
    return name if name.isprintable() else _BREAKING.sub(lambda at: _escaped(at.group()), name)


def decodable(text: str) -> str:
    r"""Text that UTF-8 can encode: bytes that are no UTF-8, and lone surrogates, as escapes."""
    return _SURROGATES.sub(lambda at: _escaped(at.group()), text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
