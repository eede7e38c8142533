"""Lists of URIs in text files and CSV, read as streams."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import TextIO

from restyle.core.errors import SpecError
from restyle.pipeline.sources.ranged_file import RangedFile, Stream

LONGEST = 32_768
"""Characters of a line at most; whatever has longer ones is no list."""

_AT_ONCE = 4096
_BUFFER = 1 << 20
_DELIMITERS = {"csv": ",", "tsv": "\t"}


def text_entries(
    file: RangedFile, extension: str, column: str | None, shown: str
) -> Iterator[list[str]]:
    """The entries of a list, some thousand at a time; empty ones too.

    A text file has one on each line. A CSV file begins with the names of its columns; one column
    alone needs no name.

    Args:
        file: UTF-8, with or without a byte order mark; other bytes are kept as they are.
        extension: ``csv`` and ``tsv`` are tables, everything else is text.
        column: the one of a table that holds the entries; None for the only one.
        shown: the file, for messages.

    Raises:
        SpecError: it is no such file, or has no such column.
        OSError: it cannot be read.
        TransientError: the store did not answer properly, however often it was asked.
    """
    delimiter = _DELIMITERS.get(extension)
    buffered = io.BufferedReader(Stream(file), _BUFFER)
    with io.TextIOWrapper(
        buffered, "utf-8-sig", errors="surrogateescape", newline="" if delimiter else None
    ) as text:
        lines = _checked_lines(text, shown)
        if delimiter is None:
            if column is not None:
                raise SpecError(f"{shown} is a plain text list, which has no columns (--column)")
            entries: Iterator[str] = (line.rstrip("\n") for line in lines)
        else:
            entries = _cells(csv.reader(lines, delimiter=delimiter), column, shown)
        while batch := list(islice(entries, _AT_ONCE)):
            yield batch


def _checked_lines(text: TextIO, shown: str) -> Iterator[str]:
    number = 0
    while line := text.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST or "\0" in line:
            wrong = "has zero bytes" if "\0" in line else f"is longer than {LONGEST:,} characters"
            raise SpecError(f"{shown} is no list of URIs in UTF-8: line {number} {wrong}")
        yield line


def _cells(rows: Iterator[list[str]], column: str | None, shown: str) -> Iterator[str]:
    try:
        header = next(rows, [])
        index, has_header = _index(header, column, shown)
        if not has_header:
            yield header[0]
        for row in rows:
            # A blank line, or a row cut short: an empty entry, which is counted.
            yield row[index] if index < len(row) else ""
    except csv.Error as error:
        raise SpecError(f"{shown} is no CSV: {error}") from error


def _index(header: list[str], column: str | None, shown: str) -> tuple[int, bool]:
    """Which column is meant, and whether the first row names it (or is an entry itself)."""
    names = ", ".join(header)
    if column is not None:
        if header.count(column) != 1:
            has = "more than one column" if column in header else "no column"
            raise SpecError(f"{shown} has {has} {column!r}; its columns are {names}")
        return header.index(column), True
    if len(header) > 1:
        raise SpecError(f"{shown} has several columns ({names}); choose one with --column")
    # Names of columns are words; what looks like a path is taken for an entry, lest it be lost.
    is_entry = bool(header) and any(sign in header[0] for sign in "/.")
    return 0, not is_entry
