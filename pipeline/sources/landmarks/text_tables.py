"""Landmarks in text: CSV, and CelebA's table divided by blanks."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from typing import TextIO

import numpy as np
import pyarrow as pa

from restyle.core.errors import SpecError, first_line_of
from restyle.pipeline.sources.landmarks.columns import KEYS, layout_of, table_faces
from restyle.pipeline.sources.landmarks.marked_faces import MarkedFaces
from restyle.pipeline.sources.ranged_file import RangedFile, Stream

LONGEST = 1 << 16
"""Most characters of a line."""

_DELIMITERS = ",;\t|"
_AT_ONCE = 4096
_BLOCK = 1 << 20
_MISSING = ["", "nan", "NaN", "NA", "null", "None"]


def csv_faces(file: RangedFile, header: str) -> Iterator[MarkedFaces]:
    """Yield the faces of a table in UTF-8 divided by commas, semicolons, tabs or ``|``.

    Args:
        file: the table.
        header: its first line.

    Raises:
        SpecError: the names of the columns or the values do not fit.
    """
    import pyarrow.csv as pc

    delimiter = max(_DELIMITERS, key=header.count)
    names = next(csv.reader([header], delimiter=delimiter))
    layout = layout_of(names)
    types = {name: pa.float64() for name in layout.numeric}
    types |= {name: pa.string() for name in (layout.key, layout.face) if name}
    if layout.nested:
        raise SpecError(f"lists of points ({layout.nested}) are read from Parquet and JSON only")
    convert = pc.ConvertOptions(
        column_types=types,
        include_columns=layout.columns,
        null_values=_MISSING,
        strings_can_be_null=False,
    )
    try:
        rows = pc.open_csv(
            pa.PythonFile(Stream(file), "r"),
            pc.ReadOptions(use_threads=False, block_size=_BLOCK),
            pc.ParseOptions(delimiter=delimiter),
            convert,
        )
        # The names of the columns are in the first line.
        yield from table_faces(rows, layout, first=2, unit="line")
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise SpecError(f"it is no CSV: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = first_line_of(error)
    return re.sub(r"^(CSV (parse|conversion) error|In CSV column)\W*", "", text)[:200]


def is_divided_by_blanks(header: str) -> bool:
    """Whether a first line is CelebA's: the number of rows, or names with blanks between them."""
    is_count = header.strip().isdecimal()
    return is_count or (len(header.split()) > 1 and not any(each in header for each in _DELIMITERS))


def celeba_faces(text: TextIO) -> Iterator[MarkedFaces]:
    """Yield the faces of a table divided by blanks, as ``list_landmarks_celeba.txt``.

    The first line may be the number of rows; the next has names of the coordinates.

    Raises:
        SpecError: the names do not fit, or a line has another number of values.
    """
    lines = _checked(text)
    header, first = next(lines, ""), 2
    if header.strip().isdecimal():
        header, first = next(lines, ""), 3
    names = header.split()
    coordinates = names[1:] if names and names[0].lower() in KEYS else names
    layout = layout_of([KEYS[0], *coordinates])
    if not layout.wide:
        raise SpecError("a table divided by blanks has a column for each coordinate")
    while batch := list(islice(lines, _AT_ONCE)):
        rows = [
            _row(line, len(coordinates), number)
            for number, line in enumerate(batch, first)
            if line.strip()
        ]
        if rows:
            keys, values = zip(*rows, strict=True)
            columns = [pa.array(keys, pa.string()), *np.array(values, np.float64).T]
            table = pa.record_batch(columns, names=[KEYS[0], *coordinates])
            yield from table_faces([table], layout, first=first, unit="line")
        first += len(batch)


def _row(line: str, count: int, number: int) -> tuple[str, list[float]]:
    # A name may have blanks itself.
    key, *values = line.strip().rsplit(maxsplit=count)
    try:
        if len(values) == count:
            return key, [float(each) for each in values]
    except ValueError:
        pass
    raise SpecError(f"line {number} is no name with {count} numbers behind it")


def _checked(text: TextIO) -> Iterator[str]:
    number = 0
    while line := text.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise SpecError(f"line {number} is longer than {LONGEST:,} characters")
        yield line
