"""Latents as Arrow: a stream with one batch per row group, a table, or a polars frame."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from restyle.pipeline.ledger.datasets import LATENTS, schema
from restyle.pipeline.results.forms.extras import require
from restyle.pipeline.results.forms.selected_rows import SelectedRows, selected_rows
from restyle.pipeline.results.latent_file import open_latents
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.latents import Wanted, picks_of
from restyle.pipeline.results.snapshot import Snapshot, read_snapshot

if TYPE_CHECKING:
    import polars


def latent_reader(
    out: str | os.PathLike[str], columns: Sequence[str] | None = None, where: str | None = None
) -> pa.RecordBatchReader:
    """Stream the latents of an output as Arrow, with about 16 MiB in memory at a time.

    Args:
        out: the output, a path or any fsspec URI.
        columns: to read besides ``latent``, which comes last; all when None.
        where: SQL condition over all columns but the latent; it is evaluated before the first
            batch, with those columns in memory.

    Returns:
        Rows of each input's newest revision in the order of :func:`read_latents`. ``latent`` is a
        fixed-size list of n_styles * style_dim float32; its field's metadata has the ``shape``.

    Raises:
        SpecError: there is no such output or column, or ``where`` is not a condition.
        FatalError: a file is missing or damaged, also while the reader is read.
    """
    snapshot = read_snapshot(os.fspath(out))
    wanted = Wanted(snapshot.out, columns, where, "current")
    shown = _schema(snapshot, columns)
    return pa.RecordBatchReader.from_batches(shown, _batches(snapshot, wanted, shown))


def latent_table(
    out: str | os.PathLike[str], columns: Sequence[str] | None = None, where: str | None = None
) -> pa.Table:
    """Read the latents of an output into an Arrow table; see :func:`latent_reader`."""
    return latent_reader(out, columns, where).read_all()


def latent_frame(
    out: str | os.PathLike[str], columns: Sequence[str] | None = None, where: str | None = None
) -> polars.DataFrame:
    """Read the latents of an output into a polars frame; see :func:`latent_reader`.

    Returns:
        A frame whose column ``latent`` is an array of n_styles * style_dim float32.

    Raises:
        SpecError: polars is not installed, or as :func:`latent_reader`.
    """
    require("polars", "polars", "a polars frame")
    import polars

    frame = polars.from_arrow(latent_table(out, columns, where))
    assert isinstance(frame, polars.DataFrame)  # noqa: S101 (a table never becomes a series)
    return frame


def _schema(snapshot: Snapshot, columns: Sequence[str] | None) -> pa.Schema:
    """The columns of the first file, in the given order."""
    files = snapshot.files(LATENTS)
    if files:
        with open_latents(snapshot.out, files[0].name) as file:
            present = file.parquet.schema_arrow
    else:
        present = schema(LATENTS, snapshot.settings, (1, 1))
    names = [name for name in (present.names if columns is None else columns) if name != "latent"]
    kept = [present.field(name) for name in dict.fromkeys(names) if name in present.names]
    return pa.schema([*kept, present.field("latent")], present.metadata)


def _batches(snapshot: Snapshot, wanted: Wanted, shown: pa.Schema) -> Iterator[pa.RecordBatch]:
    if wanted.where is not None:
        yield from _of(selected_rows(snapshot, wanted.columns, wanted.where), shown)
        return
    # A file at a time, because the other columns of a million rows are hundreds of megabytes.
    for file in snapshot.files(LATENTS):
        yield from _of(SelectedRows.of(snapshot.out, picks_of(snapshot, wanted, [file])), shown)


def _of(rows: SelectedRows, shown: pa.Schema) -> Iterator[pa.RecordBatch]:
    with rows:
        for table, latents in rows.batches():
            yield batch_of(table, latents, shown)


def batch_of(table: pa.Table, latents: FloatArray, shown: pa.Schema) -> pa.RecordBatch:
    """Join columns and latents in one batch.

    Args:
        table: the other columns of n rows.
        latents: [n, n_styles, style_dim] float32; not copied.
        shown: schema of the batch, whose last column is ``latent``.
    """
    kind = shown.field("latent").type
    column = pa.FixedSizeListArray.from_arrays(pa.array(latents.reshape(-1)), type=kind)
    others = [table.column(name).combine_chunks() for name in shown.names[:-1]]
    return pa.RecordBatch.from_arrays([*others, column], schema=shown)
