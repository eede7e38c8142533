"""The members of a JSON document one by one, in memory that does not grow with the document.

The standard library's ``json`` parses each member; here is only what lies between them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from restyle.core.errors import SpecError

LONGEST = 1 << 24
"""Most characters of one member: a thousand faces of 68 points take a tenth."""

_CHUNK = 1 << 20
_BLANKS = " \t\r\n"

Member = tuple[str | None, Any]
"""Name of a member, None in a list, and its value."""


def members(text: TextIO) -> Iterator[Member]:
    """Yield the members of a JSON object, or the elements of a list.

    Raises:
        SpecError: it is no such document, is cut off, or a member is longer than :data:`LONGEST`.
    """
    document = _Document(text)
    opening = document.take()
    if opening not in ("{", "["):
        raise SpecError("it is no JSON object and no list")
    closing = {"{": "}", "[": "]"}[opening]
    if document.peek() == closing:
        document.take()
    else:
        yield from _separated(document, is_object=opening == "{", closing=closing)
    if document.peek():
        raise SpecError(f"something follows the end of the JSON document, {document.where}")


def lines(text: TextIO) -> Iterator[Member]:
    """Yield the values of a text with a JSON value in each line.

    Raises:
        SpecError: as :func:`members`.
    """
    document = _Document(text)
    while document.peek():
        yield None, document.value()


def _separated(document: _Document, *, is_object: bool, closing: str) -> Iterator[Member]:
    while True:
        name = None
        if is_object:
            name = document.value()
            if not isinstance(name, str) or document.take() != ":":
                raise SpecError(f"it is no JSON: a name is missing {document.where}")
        yield name, document.value()
        sign = document.take()
        if sign == closing:
            return
        if sign != ",":
            cut = "it is cut off" if not sign else "a comma is missing"
            raise SpecError(f"it is no JSON: {cut} {document.where}")


class _Document:
    """A text from which values are taken."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self._before = 0
        self._decoder = json.JSONDecoder(object_pairs_hook=_without_twins)

    @property
    def where(self) -> str:
        return f"at character {self._before + self._at:,}"

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _BLANKS:
                    return self._buffer[self._at]
                self._at += 1
            if not self._more(_CHUNK):
                return ""

    def take(self) -> str:
        """As :meth:`peek`, and go on behind it."""
        sign = self.peek()
        self._at += len(sign)
        return sign

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                left = len(self._buffer) - self._at
                if left > LONGEST:
                    raise SpecError(
                        f"a value of more than {LONGEST:,} characters begins {self.where}"
                    ) from error
                # The value may only be cut off by the end of the buffer.
                if not self._more(max(_CHUNK, left)):
                    cut = "it is cut off" if error.pos >= len(self._buffer) else error.msg
                    raise SpecError(f"it is no JSON: {cut}, {self.where}") from error
            except RecursionError as error:
                raise SpecError(f"a value is nested too deep, {self.where}") from error
            except ValueError as error:
                # A number of thousands of digits.
                raise SpecError(f"it is no JSON: {error}, {self.where}") from error
            else:
                if end == len(self._buffer) and self._more(_CHUNK):
                    # A number may go on there.
                    continue
                self._at = end
                return value

    def _more(self, count: int) -> bool:
        """Read on; returns whether there was anything."""
        text = self._text.read(count)
        self._before += self._at
        self._buffer = self._buffer[self._at :] + text
        self._at = 0
        return bool(text)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twin = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise SpecError(f"a JSON object has the name {twin[:80]!r} twice")
    return found
