"""Directories of fields in TIFF and EXIF, read and changed in place.

Maker notes of cameras refer to data by offsets in the block, so a rewritten block would break them.
Source: TIFF 6.0, section 2; Exif 3.0, sections 4.5 and 4.6.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
_BYTE, _SHORT, _LONG = 1, 3, 4
_FORMATS = {_BYTE: "B", _SHORT: "H", _LONG: "I"}
_MOST_FIELDS = 4096


@dataclass(frozen=True)
class Field:
    """One entry of a directory.

    Attributes:
        tag: number of the field.
        kind: type of the values.
        count: number of values.
        place: offset of the four bytes with the value or with its offset.
        value: a single integer value, else the offset of the values.
    """

    tag: int
    kind: int
    count: int
    place: int
    value: int


class Directories:
    """The directories of a block with a TIFF header.

    Args:
        block: changed in place.

    Raises:
        ValueError: the block has no TIFF header.
    """

    def __init__(self, block: bytearray | bytes) -> None:
        self.block = block
        order = _ORDERS.get(bytes(block[:4]))
        if order is None or len(block) < 8:
            raise ValueError("no TIFF header")
        self._order = order
        self.first = self._read("I", 4)

    def fields(self, offset: int) -> tuple[dict[int, Field], int]:
        """The fields of the directory at an offset, and the offset of the next; 0 for none.

        Raises:
            ValueError: it reaches beyond the block.
        """
        count = self._read("H", offset)
        if count > _MOST_FIELDS:
            raise ValueError(f"a directory of {count} fields")
        found = {field.tag: field for field in self._walk(offset + 2, count)}
        end = offset + 2 + 12 * count
        return found, self._read("I", end) if end + 4 <= len(self.block) else 0

    def change(self, field: Field, value: int) -> None:
        """Overwrite a field with a single integer.

        Raises:
            ValueError: the field is not a single integer.
        """
        if field.count != 1 or field.kind not in _FORMATS or not isinstance(self.block, bytearray):
            raise ValueError(f"field {field.tag} is no single number")
        try:
            struct.pack_into(self._order + _FORMATS[field.kind], self.block, field.place, value)
        except struct.error as error:
            raise ValueError(str(error)) from error

    def _walk(self, place: int, count: int) -> Iterator[Field]:
        for _ in range(count):
            tag, kind = self._read("H", place), self._read("H", place + 2)
            number = self._read("I", place + 4)
            value = self._read(_FORMATS.get(kind, "I") if number == 1 else "I", place + 8)
            yield Field(tag, kind, number, place + 8, value)
            place += 12

    def _read(self, form: str, offset: int) -> int:
        try:
            return int(struct.unpack_from(self._order + form, self.block, offset)[0])
        except struct.error as error:
            raise ValueError("a directory reaches beyond its block") from error


def read_ifd(data: bytes) -> dict[int, int]:
    """Single integers of a TIFF file's first directory by tag; empty if there is none."""
    try:
        directories = Directories(data)
        fields, _ = directories.fields(directories.first)
    except ValueError:
        return {}
    return {tag: field.value for tag, field in fields.items()}
