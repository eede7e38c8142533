"""A file of codes, which is read by lists.

It begins with the number of rows and the digest of each list. The rows of one list follow those of
another: the place of a latent in the output, and its code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from restyle.pipeline.results.latent_file import IntArray
from restyle.pipeline.storage.filesystem import Part

Rows = npt.NDArray[np.void]
"""A structured array: ``file``, its index in the record; ``row`` in that file; ``offset`` of the
latent's bytes in the file, or 0 where they have to be decoded; ``code``."""

_DIGEST = 16
_LIST = np.dtype([("rows", "<u4"), ("digest", "u1", (_DIGEST,))])


def row_type(axes: int) -> np.dtype[np.void]:
    """The type of a row with a code of so many coordinates."""
    return np.dtype([("file", "<u4"), ("row", "<u4"), ("offset", "<u8"), ("code", "u1", (axes,))])


@dataclass(frozen=True, eq=False)
class Segment:
    """A file of codes.

    Attributes:
        name: of the file, relative to the output.
        lists: [lists] its header.
        type: of its rows.
    """

    name: str
    lists: npt.NDArray[np.void]
    type: np.dtype[np.void]

    def parts(self, numbers: Iterable[int]) -> dict[int, Part]:
        """Where the rows of some lists are; those without rows are left out."""
        ends = self.lists.nbytes + np.cumsum(self.lists["rows"], dtype=np.int64) * self._size
        sizes = self.lists["rows"].astype(np.int64) * self._size
        return {
            number: Part(self.name, int(ends[number] - sizes[number]), int(sizes[number]))
            for number in numbers
            if sizes[number]
        }

    def rows(self, number: int, data: bytes) -> Rows:
        """Rows of a list from its bytes.

        Raises:
            ValueError: they are damaged.
        """
        if _digest(data) != self.lists["digest"][number].tobytes():
            raise ValueError("checksum")
        return np.frombuffer(data, self.type)

    @property
    def _size(self) -> int:
        return self.type.itemsize


def header_size(lists: int) -> int:
    """Bytes of the header of a file."""
    return lists * _LIST.itemsize


def header_of(data: bytes) -> npt.NDArray[np.void]:
    """The header from its bytes."""
    return np.frombuffer(data, _LIST)


def encoded(numbers: IntArray, rows: Rows, lists: int) -> bytes:
    """Lay out a file.

    Args:
        numbers: [n] list of each row.
        rows: [n] rows.
        lists: number of lists.
    """
    header: npt.NDArray[Any] = np.zeros(lists, _LIST)
    header["rows"] = np.bincount(numbers, minlength=lists)
    rows = rows[np.argsort(numbers, kind="stable")]
    found = [part.tobytes() for part in np.split(rows, np.cumsum(header["rows"])[:-1])]
    for number, data in enumerate(found):
        header["digest"][number] = np.frombuffer(_digest(data), np.uint8)
    return b"".join([header.tobytes(), *found])


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
