"""Query results on standard output as a table, csv or JSON."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from restyle.core.errors import SpecError
from restyle.core.shown_text import visible
from restyle.jobs.display.terminal import emit, say

if TYPE_CHECKING:
    import pyarrow as pa

FILES = (".parquet", ".csv", ".json", ".jsonl")
"""Ends of the names of files that rows are written to."""

MOST_ROWS = 1000
_WIDEST = 60
_FEW = 3


def print_table(answer: pa.RecordBatchReader) -> None:
    """Print the first rows as a table, with shortened values and escaped control characters."""
    names = [visible(name) for name in answer.schema.names]
    rows: list[list[str]] = []
    numeric = [True] * len(names)
    is_cut = False
    for row in _rows(answer):
        if len(rows) == MOST_ROWS:
            is_cut = True
            break
        rows.append([_brief(value) for value in row])
        numeric = [
            is_number and isinstance(value, int | float | None)
            for is_number, value in zip(numeric, row, strict=True)
        ]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for row in [names, ["-" * width for width in widths], *rows]:
        cells = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        ]
        say("  ".join(cells).rstrip())
    if is_cut:
        say(f"These are the first {MOST_ROWS} rows; --format csv or json has all.", error=True)


def print_csv(answer: pa.RecordBatchReader) -> None:
    """Print all rows as csv: lists as JSON, bytes in base64, null as an empty field."""
    _write_csv(answer, sys.stdout, is_seen=sys.stdout.isatty())


def _write_csv(answer: pa.RecordBatchReader, stream: TextIO, *, is_seen: bool) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_cell(name, is_seen=is_seen) for name in answer.schema.names])
    for row in _rows(answer):
        writer.writerow([_cell(_plain(value), is_seen=is_seen) for value in row])


def print_json(answer: pa.RecordBatchReader) -> None:
    """Print each row as a JSON object on a line: bytes in base64, NaN and infinity as null."""
    for line in _json_lines(answer):
        emit(line)


def _json_lines(answer: pa.RecordBatchReader) -> Iterator[str]:
    names = answer.schema.names
    for row in _rows(answer):
        yield json.dumps(dict(zip(names, map(_plain, row), strict=True)), allow_nan=False)


def encoded(answer: pa.RecordBatchReader, kind: str) -> bytes:
    """Return all rows as a file, in the form that the printers have.

    Args:
        answer: the rows.
        kind: one of :data:`FILES`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kind == ".parquet":
        target = pa.BufferOutputStream()
        with pq.ParquetWriter(target, answer.schema) as writer:
            for batch in answer:
                writer.write_batch(batch)
        return bytes(target.getvalue())
    text = io.StringIO()
    if kind == ".csv":
        _write_csv(answer, text, is_seen=False)
    else:
        text.writelines(f"{line}\n" for line in _json_lines(answer))
    return text.getvalue().encode("utf-8", "surrogateescape")


def _rows(answer: pa.RecordBatchReader) -> Iterator[list[Any]]:
    for batch in answer:
        columns = [
            _values(name, column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        # By position, because two columns may have one name.
        for index in range(batch.num_rows):
            yield [column[index] for column in columns]


def _values(name: str, column: pa.Array) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, NotImplementedError, TypeError) as error:
        # Infinite dates, dates beyond the year 9999, and types that only the database has.
        raise SpecError(
            f"column {name!r} holds what cannot be printed ({error}); "
            "ask for it as varchar: cast(... as varchar)"
        ) from error
    return values


def _plain(value: Any) -> Any:
    """Convert a value to JSON types."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return value if isinstance(value, str | int | None) else str(value)


def _cell(value: Any, *, is_seen: bool) -> Any:
    text = json.dumps(value) if isinstance(value, list | dict) else value
    return visible(text) if is_seen and isinstance(text, str) else text


def _brief(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        first = ", ".join(map(_brief, value[:_FEW]))
        return f"[{first}]" if len(value) <= _FEW else f"[{first}, ... {len(value)} in all]"
    text = visible(str(value))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."
