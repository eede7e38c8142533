"""Rows of a Parquet file by their places, read forward."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import RejectError, RejectReason
from restyle.pipeline.sources.formats.parquet_columns import open_parquet_file
from restyle.pipeline.sources.ranged_file import RangedFile

_CURSORS = 3
_PAGE_HEADER = 16
_DICTIONARY_PAGE = 2
_BATCH_BYTES = 1 << 23
_BATCH_ROWS = 256
_DICTIONARY_BYTES = 1 << 26
"""Bytes of a batch whose rows may all be the largest value of a dictionary."""

_KEPT_BYTES = 1 << 26
"""Bytes of rows that were passed and may still be asked for, by another thread."""


class ParquetRows:
    """An open Parquet file. One thread at a time may use it.

    Parquet has no way to a single row: a row group is unpacked from its beginning. So row groups
    stay open where reading stopped, and rows that were passed are kept for a while, because several
    threads ask for neighbours in any order.

    Args:
        file: closed with this.

    Attributes:
        version: of the file.

    Raises:
        OSError: it is no Parquet file.
        TransientError: the store did not answer properly, however often it was asked.
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
        """The bytes in one row; None where there are none.

        Args:
            place: ``GROUP:ROW:COLUMN``: numbers of the row group and of the row in it, and a column
                that is binary, or a struct with a field ``bytes``.

        Raises:
            OSError: it cannot be read.
            TransientError: the store did not answer properly, however often it was asked.
        """
        group, row, column = place.split(":", 2)
        return self._row(int(group), int(row), column)

    def _row(self, group: int, row: int, column: str) -> bytes | None:
        end = self._ends.get(group)
        # Each further row would be looked for from the beginning again.
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
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            failure = RejectError(
                RejectReason.DAMAGED_ARCHIVE, f"the row cannot be unpacked: {reason}"
            )
            raise self._ended(group, row, failure) from error

    def _ended(self, group: int, row: int, failure: RejectError) -> RejectError:
        """Take note that nothing can be read from a row on."""
        self._cursors.clear()
        self._ends[group] = (row, failure)
        return failure

    def close(self) -> None:
        """Let go of the file."""
        self._cursors.clear()
        self._parquet.close(force=True)
        self._file.close()

    def _cursor(self, group: int, row: int, column: str) -> _Cursor:
        """The nearest that can reach a row; it is the last to be given up."""
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
            # Each row may be the same large value, which the size counts once.
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
    """Bytes that a value in the dictionary of a column chunk has at most; 0 without a dictionary.

    Args:
        file: that holds the chunk.
        chunk: what the file's table of contents says of it, which may be wrong.

    Returns:
        The size of the dictionary's page, unpacked, as the page's own header states it.
    """
    start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0)
    header = file.read_at(max(start, 0), _PAGE_HEADER)
    kind, at = _number(header, 0)
    size, _ = _number(header, at)
    return size if kind == _DICTIONARY_PAGE else 0


def _number(header: bytes, at: int) -> tuple[int, int]:
    """The next field of a page header, a 32-bit number in Thrift's compact form; 0 if it is none.

    Returns:
        The number, and where the field after it begins.
    """
    number, shift = 0, 0
    # A field after the last one, of the kind i32.
    if header[at : at + 1] != b"\x15":
        return 0, at
    for place in range(at + 1, min(at + 6, len(header))):
        number |= (header[place] & 0x7F) << shift
        shift += 7
        if header[place] < 0x80:
            return number >> 1, place + 1
    return 0, at


class _Cursor:
    """A place in a row group, and the rows that were passed on the way to it.

    Attributes:
        position: number of the next row.
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
        """Forget the rows passed longest ago, but not the one that is wanted."""
        for row in list(self._passed):
            if self._bytes <= _KEPT_BYTES:
                return
            if row != wanted:
                self._bytes -= len(self._passed.pop(row) or b"")
