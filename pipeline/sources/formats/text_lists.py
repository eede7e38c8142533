"""Read lists of URIs in text files, tables and JSON lines as streams."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, TextIO

from restyle.core.errors import SpecError
from restyle.core.files import parse_json
from restyle.pipeline.sources.formats.source_format import Entries
from restyle.pipeline.sources.formats.tables import Entry, chosen, table_entries
from restyle.pipeline.sources.ranged_file import RangedFile, Stream

LONGEST = 32_768
"""Maximum line length in characters; a file with longer lines is not a list."""

_AT_ONCE = 4096
_BUFFER = 1 << 20
_SAMPLE = 64
_DELIMITERS = {"csv": ",", "tsv": "\t", "tab": "\t"}
_JSON = ("jsonl", "ndjson")

# Longer byte order marks come first, because a shorter one is a prefix of a longer one.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_UTF_8 = "utf-8-sig"
_HEAD = 256
_LEAST = 16
_MOSTLY, _HARDLY = 0.7, 0.1


def text_entries(
    file: RangedFile, extension: str, column: str | None, shown: str
) -> Iterator[Entries]:
    """Yield the entries of a list in batches, including empty ones.

    A text file has one entry per line, or columns separated by tabs. A table may start with a
    header. JSON lines are strings, or objects that represent the rows of a table.

    Args:
        file: file in UTF-8, UTF-16 or UTF-32; bytes that are not valid UTF-8 are kept as
            surrogates.
        extension: ``csv``, ``tsv`` and ``tab`` are tables, ``jsonl`` and ``ndjson`` are JSON lines,
            everything else is text.
        column: table column that holds the entries; None selects the only suitable one.
        shown: name of the file, for messages.

    Raises:
        SpecError: the file is not such a list, or lacks the column.
        OSError: the file cannot be read.
        TransientError: the store still fails after all retries.
    """
    encoding = _encoding(file.read_at(0, _HEAD))
    buffered = io.BufferedReader(Stream(file), _BUFFER)
    errors = "surrogateescape" if encoding == _UTF_8 else "strict"
    delimiter = _DELIMITERS.get(extension)
    newline = "" if delimiter else None
    with io.TextIOWrapper(buffered, encoding, errors=errors, newline=newline) as text:
        lines = _checked_lines(text, shown)
        if extension in _JSON:
            entries = _json_entries(lines, column, shown)
        elif delimiter is not None:
            entries = table_entries(lines, delimiter, column, shown)
        else:
            entries = _plain_entries(lines, column, shown)
        while batch := list(islice(entries, _AT_ONCE)):
            yield Entries([entry for entry, _ in batch], [line for _, line in batch])


def _encoding(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    # Paths are mostly Latin letters, which in UTF-16 have a zero in every other byte.
    even, odd = head[::2].count(0), head[1::2].count(0)
    least, most = _MOSTLY * (len(head) // 2), _HARDLY * (len(head) // 2)
    if len(head) >= _LEAST and odd >= least and even <= most:
        return "utf-16-le"
    if len(head) >= _LEAST and even >= least and odd <= most:
        return "utf-16-be"
    return _UTF_8


def _checked_lines(text: TextIO, shown: str) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            line = text.readline(LONGEST + 1)
        except UnicodeDecodeError as error:
            wrong = f"is no {error.encoding.upper()}, as the file begins"
            raise SpecError(f"{shown} is no list of URIs: line {number} {wrong}") from error
        if not line:
            return
        if len(line) > LONGEST or "\0" in line:
            wrong = "has zero bytes" if "\0" in line else f"is longer than {LONGEST:,} characters"
            raise SpecError(f"{shown} is no list of URIs in UTF-8: line {number} {wrong}")
        yield line


def _plain_entries(lines: Iterator[str], column: str | None, shown: str) -> Iterator[Entry]:
    sample = list(islice(lines, _SAMPLE))
    tabs = {line.count("\t") for line in sample if line.strip()}
    lines = chain(sample, lines)
    # Equal numbers of tabs in all lines indicate a table: file names would not have that.
    if len(tabs) == 1 and tabs != {0}:
        yield from table_entries(lines, "\t", column, shown)
    elif column is not None:
        raise SpecError(f"{shown} is a plain text list, which has no columns (--column)")
    else:
        for number, line in enumerate(lines, 1):
            yield line.rstrip("\n"), number


def _json_entries(lines: Iterator[str], column: str | None, shown: str) -> Iterator[Entry]:
    values = _json_values(lines, shown)
    sample = list(islice(values, _SAMPLE))
    columns: dict[str, list[str]] = {}
    for value, _ in sample:
        for name, cell in value.items() if isinstance(value, dict) else ():
            columns.setdefault(name, []).extend([cell] if isinstance(cell, str) else [])
    texts = {name: cells for name, cells in columns.items() if cells or name == column}
    if columns and not texts:
        raise SpecError(f"{shown}: no column holds texts; its columns are {', '.join(columns)}")
    name = chosen(texts, column, shown) if texts else None
    for value, number in chain(sample, values):
        cell = value.get(name) if isinstance(value, dict) else value
        if cell is not None and not isinstance(cell, str):
            raise SpecError(f"{shown} line {number}: {json.dumps(cell)[:80]} is no path or address")
        yield cell, number


def _json_values(lines: Iterator[str], shown: str) -> Iterator[tuple[Any, int]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield parse_json(line), number
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise SpecError(f"{shown} line {number} is no JSON: {reason}") from error
