"""Choose the column of a Parquet file that holds the images or URIs, and read its rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from restyle.core.errors import RejectError, RejectReason, SpecError, first_line_of
from restyle.core.imaging.formats import begins_like_an_image
from restyle.pipeline.sources.formats.file_names import are_paths
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.ranged_file import RangedFile, Stream

_BYTES = "bytes"
_NAMED = 50
_SHOWN = 500
_ENTRIES_AT_ONCE = 4096
_TEXTS = 256
_PICTURES = 8
_BUFFER = 1 << 22
# Up to this many rows may be null or identical, and then occupy almost no bytes.
_FEW_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Column:
    """The chosen column of a Parquet file.

    Attributes:
        name: name of the column.
        holds_images: whether the column holds image bytes; otherwise it holds URIs.
    """

    name: str
    holds_images: bool


def open_parquet_file(file: RangedFile) -> pq.ParquetFile:
    """Open a Parquet file; close the result before ``file``.

    Raises:
        RejectError: the file is damaged, encrypted, or not a Parquet file.
        TransientError: the store still fails after all retries.
    """
    with _damage():
        # Buffered, because otherwise all images of a row group would be read at once.
        parquet = pq.ParquetFile(
            pa.PythonFile(Stream(file), "r"), buffer_size=_BUFFER, pre_buffer=False
        )
        # Raises UnicodeDecodeError for column names that are not in UTF-8.
        _ = parquet.schema_arrow.names
        return parquet


def choose_column(
    parquet: pq.ParquetFile, options: InputOptions, shown: str, is_named: bool
) -> Column | None:
    """Return the column named by ``--column``, or else the only suitable one.

    A binary column, or a struct with a field ``bytes`` as Hugging Face writes it, holds images; a
    string column holds URIs if its values look like paths or addresses. Image columns take
    precedence over URI columns. Several candidates are distinguished by their first values.

    Args:
        parquet: the open file.
        options: options of the input; ``format`` excludes images (``list``) or URIs (``parquet``).
        shown: name of the file, for messages.
        is_named: whether the user named the file. In any other file with several string columns,
            such as the metadata of a shard, no column is taken for URIs.

    Returns:
        The column, or None if there is no suitable column.

    Raises:
        SpecError: several columns are suitable, or the requested one is missing or of another type.
        RejectError: the file is damaged.
    """
    schema = parquet.schema_arrow
    images = [] if options.format == "list" else [f.name for f in schema if _is_image(f.type)]
    uris = [] if options.format == "parquet" else [f.name for f in schema if _is_string(f.type)]
    if options.column is not None:
        if options.column in images or options.column in uris:
            return Column(options.column, options.column in images)
        wanted = {"list": "URIs", "parquet": "images"}.get(options.format, "images or URIs")
        has = "holds no" if options.column in schema.names else "is missing; it must hold"
        raise SpecError(
            f"{shown}: the column {options.column!r} {has} {wanted}; its columns are "
            f"{described(schema)}"
        )
    if len(images) > 1 and len({*images}) == len(images):
        images = [each for each in images if _holds_pictures(parquet, each)] or images
    if images:
        return Column(_only(images, "images", shown), holds_images=True)
    if len(uris) > 1 and not is_named and options.format == "auto":
        return None
    if len(uris) > 1 or options.format == "auto":
        uris = [each for each in uris if are_paths(_first_values(parquet, each, _TEXTS))]
    return Column(_only(uris, "URIs", shown), holds_images=False) if uris else None


def _only(names: list[str], what: str, shown: str) -> str:
    if len(names) > 1:
        raise SpecError(
            f"{shown}: several columns may hold the {what} ({', '.join(names)}); choose one with "
            "--column"
        )
    return names[0]


def described(schema: pa.Schema) -> str:
    """Return names and types of the columns, for a message of bounded length."""
    shown = ", ".join(f"{field.name} ({field.type})" for field in islice(schema, _NAMED))
    if len(shown) > _SHOWN or len(schema) > _NAMED:
        return f"{shown[:_SHOWN]}, ..."
    return shown or "none"


def rows_of_groups(metadata: pq.FileMetaData, size: int, least: float) -> list[int]:
    """Return the number of rows in each row group, and check that the file can hold them.

    A file of a few kilobytes can declare a billion rows that are all null or identical.

    Args:
        metadata: metadata of the file.
        size: size of the file in bytes.
        least: minimum number of file bytes per row.

    Raises:
        RejectError: a row count is invalid, or the file is too small for the number of rows.
    """
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    total = sum(rows)
    if min(rows, default=0) < 0:
        raise RejectError(RejectReason.DAMAGED_ARCHIVE, "a row group states an impossible size")
    if total > _FEW_ROWS and total * least > size:
        raise RejectError(
            RejectReason.TOO_LARGE,
            f"it states {total:,} rows in {size:,} bytes, which can hold no input each",
        )
    return rows


def parquet_entries(parquet: pq.ParquetFile, column: str) -> Iterator[list[str | None]]:
    """Yield the strings of a column in batches; null values are None.

    Raises:
        RejectError: the file is damaged.
    """
    with _damage():
        for batch in parquet.iter_batches(_ENTRIES_AT_ONCE, columns=[column], use_threads=False):
            yield batch.column(0).to_pylist()


def _first_values(parquet: pq.ParquetFile, column: str, count: int) -> list[Any]:
    """Return the first values of a column; for a struct, those of its field ``bytes``."""
    kind = parquet.schema_arrow.field(column).type
    path = f"{column}.{_BYTES}" if pt.is_struct(kind) else column
    with _damage():
        for batch in parquet.iter_batches(count, columns=[path], use_threads=False):
            values = batch.column(0)
            return list((values.field(_BYTES) if pt.is_struct(kind) else values).to_pylist())
    return []


def _holds_pictures(parquet: pq.ParquetFile, column: str) -> bool:
    values = _first_values(parquet, column, _PICTURES)
    return any(begins_like_an_image(value) for value in values if value)


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = first_line_of(error)
        raise RejectError(
            RejectReason.DAMAGED_ARCHIVE, f"the Parquet file cannot be read: {reason}"
        ) from error


def _is_image(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    if pt.is_struct(kind):
        index = kind.get_field_index(_BYTES)
        return index >= 0 and _is_binary(_plain(kind.field(index).type))
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))


def _is_string(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the storage type of an extension type, or the value type of a dictionary."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    return _plain(kind.value_type) if pt.is_dictionary(kind) else kind
