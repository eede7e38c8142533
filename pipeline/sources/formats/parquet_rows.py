"""Read single rows of a Parquet file by their location."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import RejectError, RejectReason, first_line_of
from restyle.pipeline.sources.formats.parquet_columns import open_parquet_file
from restyle.pipeline.sources.ranged_file import RangedFile

_CURSORS = 3
_PAGE_HEADER = 16
_DICTIONARY_PAGE = 2
_BATCH_BYTES = 1 << 23
_BATCH_ROWS = 256
_DICTIONARY_BYTES = 1 << 26
"""Maximum bytes of a batch in which every row may be the largest value of a dictionary."""

_KEPT_BYTES = 1 << 26
"""Maximum bytes of decoded rows that are kept because another thread may still request them."""


class ParquetRows:
    """An open Parquet file; not thread-safe.

    Parquet has no access to a single row: a row group is decoded from its start. Row groups
    therefore stay open at the position reached, and decoded rows are kept for a while, because
    several threads request neighbouring rows in any order.

    Args:
        file: open file; closed with this object.

    Attributes:
        version: version of the file.

    Raises:
        OSError: the file is not a Parquet file.
        TransientError: the store still fails after all retries.
    """

    def __init__(self, file: RangedFile) -> None:
        self.version = file.version
        self._file = file
        try:
            self._parquet = open_parquet_file(file)
        except RejectError as error:
            file.close()
            raise OSError(str(error)) from error
        self._cursors: list[_Cursor] = []
        self._ends: dict[int, tuple[int, RejectError]] = {}

    def read(self, place: str) -> bytes | None:
        """Return the bytes in one row; None if the value is null.

        Args:
            place: ``GROUP:ROW:COLUMN``: the index of the row group, the index of the row in it, and
                the name of a binary column or a struct column with a field ``bytes``.

        Raises:
            OSError, RejectError: the row cannot be read.
            TransientError: the store still fails after all retries.
        """
        group, row, column = place.split(":", 2)
        return self._row(int(group), int(row), column)

    def _row(self, group: int, row: int, column: str) -> bytes | None:
        end = self._ends.get(group)
        # Fail at once: each further row would be decoded from the start of the group again.
        if end is not None and row >= end[0]:
            raise end[1]
        try:
            return self._cursor(group, row, column).take(row)
        except MemoryError as error:
            failure = RejectError(
                RejectReason.TOO_LARGE, "its row group takes more memory than one input may"
            )
            raise self._ended(group, row, failure) from error
        except (pa.ArrowException, KeyError, IndexError, ValueError) as error:
            reason = first_line_of(error)
            failure = RejectError(
                RejectReason.DAMAGED_ARCHIVE, f"the row cannot be unpacked: {reason}"
            )
            raise self._ended(group, row, failure) from error

    def _ended(self, group: int, row: int, failure: RejectError) -> RejectError:
        """Record that no row can be read from this one on."""
        self._cursors.clear()
        self._ends[group] = (row, failure)
        return failure

    def close(self) -> None:
        """Close the file."""
        self._cursors.clear()
        self._parquet.close(force=True)
        self._file.close()

    def _cursor(self, group: int, row: int, column: str) -> _Cursor:
        """Return the nearest cursor that can reach a row, and mark it as most recently used."""
        able = [each for each in self._cursors if each.can_reach(group, row, column)]
        if able:
            nearest = max(able, key=lambda each: each.has(row) or each.position / (row + 1))
            self._cursors.remove(nearest)
        else:
            nearest = _Cursor(group, column, self._batches(group, column))
        self._cursors = [*self._cursors[-(_CURSORS - 1) :], nearest]
        return nearest

    def _batches(self, group: int, column: str) -> Iterator[pa.Array]:
        metadata = self._parquet.metadata.row_group(group)
        kind = self._parquet.schema_arrow.field(column).type
        path = f"{column}.bytes" if pa.types.is_struct(kind) else column
        chunks = [metadata.column(index) for index in range(metadata.num_columns)]
        chunks = [chunk for chunk in chunks if chunk.path_in_schema == path]
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
        rows = _BATCH_BYTES * metadata.num_rows // max(size, 1)
        largest = max((largest_in_dictionary(self._file, chunk) for chunk in chunks), default=0)
        if largest:
            # Every row may be the same large value, which the chunk's size counts only once.
            rows = min(rows, _DICTIONARY_BYTES // largest)
        for batch in self._parquet.iter_batches(
            min(max(rows, 1), _BATCH_ROWS),
            row_groups=[group],
            columns=[path],
            use_threads=False,
        ):
            found = batch.column(0)
            yield found.field("bytes") if pa.types.is_struct(found.type) else found


def largest_in_dictionary(file: RangedFile, chunk: pq.ColumnChunkMetaData) -> int:
    """Return the maximum bytes of a dictionary value of a column chunk; 0 without a dictionary.

    Args:
        file: file that contains the chunk.
        chunk: metadata of the chunk from the file's footer, which may be wrong.

    Returns:
        The uncompressed size of the dictionary page, as stated in the page's own header.
    """
    start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0)
    header = file.read_at(max(start, 0), _PAGE_HEADER)
    kind, at = _number(header, 0)
    size, _ = _number(header, at)
    return size if kind == _DICTIONARY_PAGE else 0


def _number(header: bytes, at: int) -> tuple[int, int]:
    """Decode the next i32 field of a page header (Thrift compact protocol); 0 if it is none.

    Returns:
        The number, and the offset of the following field.
    """
    number, shift = 0, 0
    # Header byte of a field whose id follows the previous one and whose type is i32.
    if header[at : at + 1] != b"\x15":
        return 0, at
    for place in range(at + 1, min(at + 6, len(header))):
        number |= (header[place] & 0x7F) << shift
        shift += 7
        if header[place] < 0x80:
            return number >> 1, place + 1
    return 0, at


class _Cursor:
    """A position in a row group, with decoded rows that were not requested yet.

    Attributes:
        position: index of the next row to decode.
    """

    def __init__(self, group: int, column: str, batches: Iterator[pa.Array]) -> None:
        self.position = 0
        self._of = group, column
        self._batches = batches
        self._passed: dict[int, bytes | None] = {}
        self._bytes = 0

    def can_reach(self, group: int, row: int, column: str) -> bool:
        return self._of == (group, column) and (row >= self.position or self.has(row))

    def has(self, row: int) -> bool:
        return row in self._passed

    def take(self, row: int) -> bytes | None:
        while row >= self.position:
            batch = next(self._batches, None)
            if batch is None:
                raise IndexError(f"there is no row {row}")
            for value in batch.to_pylist():
                self._passed[self.position] = value
                self._bytes += len(value or b"")
                self.position += 1
            self._shrink(row)
        value = self._passed.pop(row)
        self._bytes -= len(value or b"")
        return value

    def _shrink(self, wanted: int) -> None:
        """Drop the oldest decoded rows, except the wanted one."""
        for row in list(self._passed):
            if self._bytes <= _KEPT_BYTES:
                return
            if row != wanted:
                self._bytes -= len(self._passed.pop(row) or b"")
