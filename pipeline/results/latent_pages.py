"""Reading the latent column directly from its Parquet pages into an array.

Every page has levels, which encode the starts of lists and nulls. For latents of fixed length
without nulls they are redundant, but decoding them takes Arrow several times as long as reading the
numbers. So for uncompressed plain pages only the headers are parsed, 30 bytes per megabyte.
Source: the format of pages, parquet.apache.org/docs/file-format, and of their headers,
Thrift's compact protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

FloatArray = npt.NDArray[np.float32]

_PATH = "latent.list.element"
_DATA_PAGE, _DATA_PAGE_2, _PLAIN = 0, 3, 0
_HEADER = 512
"""Bytes read for a header; longer headers are read again."""
_LONGEST_HEADER = 2**20


class ByteRange(Protocol):
    """Part of a file that can be read at any position."""

    def read(self, start: int, size: int) -> bytes:
        """Bytes from a position in the file; fewer at its end."""

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill a buffer from a position in the file.

        Raises:
            EOFError: the file ends before.
        """


@dataclass(frozen=True)
class _Page:
    """Consecutive numbers: index of the first one in the column, offset in the file, and count."""

    first: int
    start: int
    count: int


@dataclass(frozen=True)
class LatentPages:
    """The pages of one row group's latent column.

    Attributes:
        size: numbers per latent.
        pages: in order.
    """

    size: int
    pages: tuple[_Page, ...]

    def offsets(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Offsets [n] in the file of the latents of rows [n]; 0 of those that lie in two pages."""
        starts = np.array([(page.first, page.start, page.count) for page in self.pages], np.int64)
        begins = rows * self.size
        first, start, count = starts[np.searchsorted(starts[:, 0], begins, side="right") - 1].T
        is_whole = begins + self.size <= first + count
        return np.where(is_whole, start + 4 * (begins - first), 0)

    def read_into(self, file: ByteRange, first: int, target: FloatArray) -> None:
        """Read successive latents.

        Args:
            file: the file that the pages were found in.
            first: index of the first one in the row group.
            target: [rows, size], contiguous; receives the latents.

        Raises:
            EOFError: the file ends before.
        """
        flat = target.reshape(-1).view(np.uint8).data
        begin = first * self.size
        end = begin + target.size
        for page in self.pages:
            low, high = max(begin, page.first), min(end, page.first + page.count)
            if low < high:
                place = page.start + 4 * (low - page.first)
                file.read_into(place, flat[4 * (low - begin) : 4 * (high - begin)])


def find_pages(parquet: pq.ParquetFile, group: int, file: ByteRange) -> LatentPages | None:
    """Locate the latents of a row group by the headers of their pages.

    Args:
        parquet: the open file.
        group: index of the row group.
        file: the same file, or at least that column of it.

    Returns:
        None if they are compressed or encoded, as by earlier versions of this project.

    Raises:
        ValueError: the headers are invalid or contradict the file's footer.
    """
    at = _column_index(parquet)
    column = parquet.metadata.row_group(group).column(at)
    levels = parquet.schema.column(at)
    size = parquet.schema_arrow.field("latent").type.list_size
    if (
        column.compression != "UNCOMPRESSED"
        or column.has_dictionary_page
        or not {"PLAIN", "RLE"} >= set(column.encodings)
        # One repetition level for the list, and no nullable level.
        or (levels.max_definition_level, levels.max_repetition_level) != (1, 1)
        or column.num_values != size * parquet.metadata.row_group(group).num_rows
    ):
        return None
    start = column.data_page_offset
    end = start + column.total_compressed_size
    pages: list[_Page] = []
    count = 0
    while count < column.num_values:
        found = _page(file, start, count)
        if found is None:
            return None
        page, start = found
        if start > end:
            raise ValueError("a page is longer than its column")
        pages.append(page)
        count += page.count
    if count != column.num_values:
        raise ValueError("the pages hold more numbers than the footer says")
    return LatentPages(size, tuple(pages))


def column_range(parquet: pq.ParquetFile, group: int) -> tuple[int, int]:
    """Offset and length of a row group's latent column without dictionary."""
    column = parquet.metadata.row_group(group).column(_column_index(parquet))
    return column.data_page_offset, column.total_compressed_size


def decode(parquet: pq.ParquetFile, group: int) -> FloatArray:
    """Read the latents [rows, size] of a row group by Arrow, in any encoding."""
    column = parquet.read_row_group(group, ["latent"], use_threads=False).column(0)
    size = parquet.schema_arrow.field("latent").type.list_size
    flat = column.combine_chunks().flatten() if column.num_chunks else pa.array([], pa.float32())
    values: FloatArray = flat.to_numpy().reshape(-1, size)
    return values


def _column_index(parquet: pq.ParquetFile) -> int:
    group = parquet.metadata
    for index in range(group.num_columns):
        if group.schema.column(index).path == _PATH:
            return index
    raise ValueError("it has no column of latents")


def _page(file: ByteRange, start: int, first: int) -> tuple[_Page, int] | None:
    """The page at an offset, and the offset of the next one; None for data page version 2."""
    size = _HEADER
    while True:
        reader = _Compact(file.read(start, size))
        try:
            header = reader.struct()
            break
        except IndexError:
            if size >= _LONGEST_HEADER:
                raise ValueError("the header of a page makes no sense") from None
            size *= 16
    # PageHeader: 1 type, 2 uncompressed size, 3 compressed size, 5 data page header, of which
    # 1 number of values, 2 encoding.
    length, data = header.get(3), header.get(5)
    if header.get(1) == _DATA_PAGE_2:
        return None
    if header.get(1) != _DATA_PAGE or not isinstance(data, dict) or not isinstance(length, int):
        raise ValueError("a page is of an unexpected kind")
    count = data.get(1)
    if data.get(2) != _PLAIN or not isinstance(count, int) or not 0 < 4 * count <= length:
        raise ValueError("a page is of an unexpected kind")
    end = start + reader.at + length
    # The numbers follow the levels.
    return _Page(first, end - 4 * count, count), end


class _Compact:
    """Parser of Thrift's compact protocol without lists, which page headers do not contain."""

    _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> dict[int, object]:
        """Fields by number; raises IndexError at the end of the data."""
        if depth > 8:
            raise ValueError("the header of a page makes no sense")
        fields: dict[int, object] = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._integer()
            fields[number] = self._value(kind & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> object:
        if kind in (self._TRUE, self._FALSE):
            return kind == self._TRUE
        if kind == self._BYTE:
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind in (self._DOUBLE, self._BINARY):
            self._skip(8 if kind == self._DOUBLE else self._unsigned())
            return None
        if kind == self._STRUCT:
            return self.struct(depth + 1)
        raise ValueError("the header of a page makes no sense")

    def _integer(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
        return byte

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise IndexError
