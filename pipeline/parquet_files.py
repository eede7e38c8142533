"""Reading a few rows of an output's Parquet files, never a whole dataset."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ledger import UnitRecord
from pipeline.storage import absolute_path, local_path, open_filesystem, storage_errors
from restyle_core.errors import FatalError

T = TypeVar("T")

_BUFFER = 1 << 20
BATCH_ROWS = 16
"""Rows of image bytes held at a time: a few megabytes even at 1024 x 1024."""


@contextlib.contextmanager
def open_parquet(out: str, name: str) -> Iterator[pq.ParquetFile]:
    """Open one file of an output for reading parts of it.

    Args:
        out: the output, a path or any fsspec URI.
        name: relative to it, as the ledger names it.

    Raises:
        FatalError: the file is missing or no Parquet.
    """
    where = f"{out.rstrip('/')}/{name}"
    with storage_errors("cannot read", where), contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_open(out, name))
            # A buffer, because a column of images would be read as a whole otherwise.
            yield stack.enter_context(pq.ParquetFile(file, buffer_size=_BUFFER))
        except (pa.ArrowInvalid, FileNotFoundError) as error:
            raise FatalError(
                f"cannot read {where}: {str(error).splitlines()[0]}; "
                "`restyle verify` tells what else is damaged"
            ) from error


def file_of(record: UnitRecord, dataset: str) -> tuple[str, int] | None:
    """Name and rows of a unit's file in a dataset; None when the unit has no rows there."""
    for file in record.files:
        if file.name.startswith(f"{dataset}/") and file.rows:
            return file.name, file.rows
    return None


def columns_of(parquet: pq.ParquetFile, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted columns that a file has, in the order wanted."""
    present = set(parquet.schema_arrow.names)
    return [name for name in wanted if name in present]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of the items, evenly over their order."""
    if len(items) <= most:
        return list(items)
    return [items[(2 * index + 1) * len(items) // (2 * most)] for index in range(most)]


def _open(out: str, name: str) -> Any:
    path = local_path(out)
    if path is not None:
        return (Path(absolute_path(path)) / name).open("rb")
    filesystem, root = open_filesystem(out)
    return filesystem.open(f"{root.rstrip('/')}/{name}", "rb")
