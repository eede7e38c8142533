"""Escaping of foreign text: names of files, columns and models, messages of servers.

Consoles, error lines and templates pass all text through :func:`visible`, so that none can control
a terminal, hide characters or reverse their direction.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LINES = re.compile(r"[^\n\t]+")
# Characters that UTF-8 cannot encode; and those plus control characters and line breaks.
_SURROGATES = re.compile("[\ud800-\udfff]")
_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Escape line breaks and control, direction and invisible characters.

    Args:
        text: any text; lone surrogates, Python's form of bytes that are not UTF-8, become ``\xNN``.

    Returns:
        One line of UTF-8 that a terminal prints literally: ``\n``, ``\x1b``, ``\u202e``.
    """
    if text.isprintable():
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in _HIDDEN else character
        for character in text
    )


def plural(count: int, noun: str, many: str = "") -> str:
    """Format a count with its noun: ``1 unit``, ``2 units``, ``1,000 units``.

    Args:
        count: of what the noun names.
        noun: its singular.
        many: its plural, where that is not the singular with an ``s``.
    """
    return f"{count:,} {noun if count == 1 else many or f'{noun}s'}"


def are(count: int) -> str:
    """Return the verb for a count: ``is`` for one, else ``are``."""
    return "is" if count == 1 else "are"


def visible_lines(text: str) -> str:
    """Apply :func:`visible` to text of several lines; line feeds and tabs stay."""
    return _LINES.sub(lambda match: visible(match.group()), text.replace("\r\n", "\n"))


def visible_strings(value: Any) -> Any:
    """Apply :func:`visible` to all strings of a JSON value, keys included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible_strings(key): visible_strings(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [visible_strings(each) for each in value]
    return value


def recorded(name: str) -> str:
    r"""Escape control characters, line breaks and bytes that are not UTF-8 in a name for datasets.

    All other characters stay, so that rows can be joined with files by name.
    """
    return name if name.isprintable() else _BREAKING.sub(lambda at: _escaped(at.group()), name)


def decodable(text: str) -> str:
    r"""Escape lone surrogates, so that UTF-8 can encode the text."""
    return _SURROGATES.sub(lambda at: _escaped(at.group()), text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
