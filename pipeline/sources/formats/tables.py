"""Read tables of paths: detect the delimiter and the column that holds the paths.

The standard library's ``csv`` parses the rows. General delimiter detection, such as
``csv.Sniffer``, does not know what the table contains; here the right delimiter is the one that
produces a column of paths.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from restyle.core.errors import SpecError
from restyle.pipeline.sources.formats.file_names import are_paths, is_address, is_path

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE = 64
_COMMENT = "#"
_MOST_COMMENTS = 0.75
# No line contains it, so a row that ends with it has an unclosed quote.
_END = "\0"

Entry = tuple[str | None, int]
"""Text of an entry (None if null) and its line number."""


@dataclass(frozen=True)
class _Layout:
    """Format of a table.

    Attributes:
        delimiter: delimiter between columns.
        rows: first rows, without comments.
        has_paths: whether a column holds paths.
        has_blanks: whether a space follows delimiters before a quote.
        has_comments: whether rows that start with ``#`` are comments; false if nearly all do.
    """

    delimiter: str
    rows: list[list[str]]
    has_paths: bool = False
    has_blanks: bool = False
    has_comments: bool = False

    @property
    def width(self) -> int:
        """Number of columns in the first row."""
        return len(self.rows[0]) if self.rows else 0

    @property
    def is_regular(self) -> bool:
        """Whether there are several columns, most rows have that number, and none has more."""
        full = sum(len(row) == self.width for row in self.rows)
        return (
            self.width > 1 and 2 * full >= len(self.rows) and max(map(len, self.rows)) == self.width
        )


def table_entries(
    lines: Iterator[str], delimiter: str, column: str | None, shown: str
) -> Iterator[Entry]:
    """Yield the entries of a table, each with the number of the first line of its row.

    Args:
        lines: lines with their line ends.
        delimiter: expected delimiter for the file's extension; another one that fits better is
            used.
        column: name of the column with the entries; None selects the only one that holds paths.
        shown: name of the table, for messages.

    Raises:
        SpecError: no column or several are suitable, or a quote is not closed.
    """
    sample = list(islice(lines, _SAMPLE))
    layout = max(
        (_layout(sample, each) for each in (delimiter, *_DELIMITERS)),
        key=lambda each: (
            each.is_regular and each.has_paths,
            each.is_regular,
            each.delimiter == delimiter,
        ),
    )
    has_header = _has_header(layout.rows)
    index = _index(layout.rows, has_header, column, shown)
    rows = _rows(chain(sample, lines), layout, shown)
    if has_header:
        header = layout.rows[0]
        rows = _without(rows, header)
    for row, line in rows:
        is_comment = layout.has_comments and bool(row) and row[0].startswith(_COMMENT)
        # A blank line or a truncated row yields an empty entry, which is counted.
        yield (row[0] if is_comment else row[index] if index < len(row) else "", line)


def chosen(columns: dict[str, list[str]], column: str | None, shown: str) -> str:
    """Return the requested column, or else the only one that holds paths.

    Args:
        columns: column names, each with some of its values.
        column: requested column, or None.
        shown: name of the table, for messages.

    Raises:
        SpecError: no column or several are suitable.
    """
    names = ", ".join(columns)
    if column is not None:
        if column not in columns:
            raise SpecError(f"{shown} has no column {column!r}; its columns are {names}")
        return column
    if len(columns) == 1:
        return next(iter(columns))
    found = [name for name, values in columns.items() if are_paths(values)]
    if len(found) > 1:
        raise SpecError(
            f"{shown} has several columns ({', '.join(found)}) of paths or addresses; choose one "
            "with --column"
        )
    if not found:
        raise SpecError(
            f"{shown} has several columns ({names}), none of which looks like paths or addresses; "
            "choose one with --column"
        )
    return found[0]


def _layout(sample: Sequence[str], delimiter: str) -> _Layout:
    has_blanks = any(f'{delimiter} "' in line for line in sample)
    try:
        read = csv.reader(sample, delimiter=delimiter, skipinitialspace=has_blanks)
        rows = [row for row in read if any(map(str.strip, row))]
    except csv.Error:
        return _Layout(delimiter, [])
    if len(sample) == _SAMPLE:
        # The last row of the sample may be incomplete.
        rows = rows[:-1] or rows
    comments = sum(row[0].startswith(_COMMENT) for row in rows)
    has_comments = comments <= _MOST_COMMENTS * len(rows)
    if has_comments:
        rows = _without_comments(rows)
    columns = list(zip(*(row for row in rows if len(row) == len(rows[0])), strict=True))
    below = [values[1:] or values for values in columns]
    has_paths = any(any(values) and are_paths(values) for values in below)
    return _Layout(delimiter, rows, has_paths, has_blanks, has_comments)


def _without_comments(rows: list[list[str]]) -> list[list[str]]:
    """Remove comments above and among the rows; keep a header that starts with ``#``."""
    found = [row for row in rows if not row[0].startswith(_COMMENT)]
    if found and not _has_header(found):
        headers = [row for row in rows[: rows.index(found[0])] if len(row) == len(found[0]) > 1]
        if headers:
            first, *rest = headers[-1]
            return [[first.removeprefix(_COMMENT).strip(), *rest], *found]
    return found


def _has_header(rows: list[list[str]]) -> bool:
    """Return whether the first row holds the column names rather than entries."""
    if not rows:
        return False
    header = rows[0]
    if len(header) == 1:
        # A column name is a word; a text that may be a path is kept as an entry, so that none is
        # lost.
        return not any(sign in header[0] for sign in "/.\\")
    for at, cell in enumerate(header):
        below = [row[at] for row in rows[1:] if at < len(row)]
        if is_address(cell) or (is_path(cell) and not any(map(is_address, below))):
            return False
    return True


def _index(rows: list[list[str]], has_header: bool, column: str | None, shown: str) -> int:
    """Return the index of the chosen column."""
    if not rows:
        return 0
    width = len(rows[0])
    names = [name.strip() for name in rows[0]] if has_header else [str(n + 1) for n in range(width)]
    if column is not None and names.count(column) > 1:
        raise SpecError(f"{shown} has more than one column {column!r}")
    body = rows[1:] if has_header else rows
    values = {name: [row[at] for row in body if at < len(row)] for at, name in enumerate(names)}
    return names.index(chosen(values, column, shown))


def _rows(lines: Iterator[str], layout: _Layout, shown: str) -> Iterator[tuple[list[str], int]]:
    """Yield all rows, each with the number of its first line.

    Raises:
        SpecError: a quote is not closed.
    """
    reader = csv.reader(
        chain(lines, [_END]), delimiter=layout.delimiter, skipinitialspace=layout.has_blanks
    )
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise SpecError(f"{shown} is no CSV: {error}, in the row at line {first}") from error
        if row is None or row == [_END]:
            return
        if row and row[-1].endswith(_END):
            raise SpecError(f"{shown} is no CSV: nothing closes a quote in the row at line {first}")
        yield row, first


def _without(
    rows: Iterator[tuple[list[str], int]], header: list[str]
) -> Iterator[tuple[list[str], int]]:
    """Yield the rows below the header; comments and blank lines above it are dropped."""
    for row, _ in rows:
        named = [row[0].removeprefix(_COMMENT).strip(), *row[1:]] if row else []
        if header in (row, named):
            break
    yield from rows
