"""Read a file of landmarks, whatever its kind, which its content tells."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import SpecError, first_line_of
from restyle.pipeline.sources.landmarks.columns import layout_of, table_faces
from restyle.pipeline.sources.landmarks.json_faces import json_faces
from restyle.pipeline.sources.landmarks.marked_faces import MarkedFaces
from restyle.pipeline.sources.landmarks.text_tables import (
    LONGEST,
    celeba_faces,
    csv_faces,
    is_divided_by_blanks,
)
from restyle.pipeline.sources.ranged_file import RangedFile, Stream

KIND = "landmarks"
"""Stands for these files where formats of inputs have their names."""

_PARQUET = b"PAR1"
_MARK = b"\xef\xbb\xbf"
_JSON = (b"{", b"[")
_LINES = ("jsonl", "ndjson")
_BUFFER = 1 << 20
_COLUMN_BUFFER = 1 << 16
_ROWS = 4096

# Up to this many rows may occupy almost no bytes.
_FEW_ROWS = 1 << 16


def read_faces(file: RangedFile, name: str) -> Iterator[MarkedFaces]:
    """Yield the faces of a file of landmarks.

    Args:
        file: the file; the caller closes it.
        name: its name, whose extension tells lines of JSON from a document.

    Raises:
        SpecError: the file has no layout that is known, or is damaged; without its name.
        OSError: the file cannot be read.
    """
    head = file.read_at(0, LONGEST)
    start = head.removeprefix(_MARK).lstrip()
    if not start:
        raise SpecError("it is empty")
    if head.startswith(_PARQUET):
        yield from _parquet_faces(file)
        return
    try:
        if start.startswith(_JSON):
            has_lines = name.rpartition(".")[2].lower() in _LINES
            yield from json_faces(_text(file), has_lines=has_lines)
            return
        line = head.removeprefix(_MARK).split(b"\n", 1)[0].decode()
        if is_divided_by_blanks(line):
            yield from celeba_faces(_text(file))
        else:
            yield from csv_faces(file, line.rstrip("\r"))
    except UnicodeDecodeError as error:
        raise SpecError("it is neither Parquet nor a text in UTF-8") from error


def _text(file: RangedFile) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(Stream(file), _BUFFER), "utf-8-sig")


def _parquet_faces(file: RangedFile) -> Iterator[MarkedFaces]:
    try:
        parquet = pq.ParquetFile(
            pa.PythonFile(Stream(file), "r"), buffer_size=_COLUMN_BUFFER, pre_buffer=False
        )
        rows = parquet.metadata.num_rows
        # A file of a few kilobytes can state a billion rows that are all alike.
        if rows > max(_FEW_ROWS, file.size):
            raise SpecError(f"it states {rows:,} rows in {file.size:,} bytes")
        layout = layout_of(parquet.schema_arrow.names)
        batches = parquet.iter_batches(_ROWS, columns=layout.columns, use_threads=False)
        yield from table_faces(batches, layout)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = first_line_of(error)
        raise SpecError(f"the Parquet file cannot be read: {reason[:200]}") from error
