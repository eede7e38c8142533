"""Reading the latents of an output into a table and an array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.ledger.datasets import LATENTS
from restyle.pipeline.ledger.entries import WrittenFile
from restyle.pipeline.results.latent_file import IntArray, LatentFile, open_latents
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.snapshot import Snapshot, read_snapshot

if TYPE_CHECKING:
    import pandas as pd

Revisions = Literal["current", "all"]
_KEYS = ("image_id", "revision")


def read_latents(
    out: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    where: str | None = None,
    *,
    revisions: Revisions = "current",
) -> tuple[pd.DataFrame, FloatArray]:
    """Read the latents of an output, without Ray and without torch.

    ::

        rows, w = read_latents("OUT", where="id_similarity > 0.6")

    Only files in the ledger are read. Uncompressed latents are read directly into the array.

    Args:
        out: the output, a path or any fsspec URI.
        columns: of the table, in this order; all but the latent when None.
        where: SQL condition over all columns but the latent.
        revisions: ``snapshot`` for the rows of each input's newest revision, ``all`` to include
            older ones.

    Returns:
        A table of N rows, and [N, n_styles, 512] float32 in the same order, which is that of the
        input. The array is [0, 0, 0] for an output without faces.

    Raises:
        SpecError: there is no such output or column, or ``where`` is not a condition.
        FatalError: a file is missing or damaged, or cannot be read.
        TransientError: the storage failed; a retry may help.
    """
    wanted = Wanted(os.fspath(out), columns, where, revisions)
    snapshot = read_snapshot(wanted.out)
    if where is None:
        picks, latents = _read_at_once(snapshot, wanted)
    else:
        picks, latents = _read_matching(snapshot, wanted)
    return _frame(picks, columns), latents


@dataclass(frozen=True)
class Wanted:
    """The arguments of :func:`read_latents`."""

    out: str
    columns: Sequence[str] | None
    where: str | None
    revisions: Revisions


@dataclass(frozen=True, eq=False)
class Pick:
    """Selected rows of a file.

    Attributes:
        name: of the file.
        shape: of a latent.
        rows: ascending indices in the file.
        table: their other columns.
    """

    name: str
    shape: tuple[int, int]
    rows: IntArray
    table: pa.Table


def _read_at_once(snapshot: Snapshot, wanted: Wanted) -> tuple[list[Pick], FloatArray]:
    """Read each file once, into an array with the number of rows in the ledger."""
    files = snapshot.files(LATENTS)
    most = sum(file.rows for file in files)
    picks: list[Pick] = []
    latents = _array(0, (0, 0))
    end = 0
    for each in files:
        with open_latents(wanted.out, each.name) as file:
            pick = _pick(snapshot, file, wanted)
            if not picks:
                latents = _array(most, pick.shape)
            picks.append(pick)
            _check_shapes(snapshot, picks)
            start, end = end, end + len(pick.rows)
            if end > most:
                raise FatalError(
                    f"{snapshot.storage.shown(each.name)} has more rows than committed"
                )
            _fill(file, pick, latents[start:end])
    return picks, latents[:end]


def _read_matching(snapshot: Snapshot, wanted: Wanted) -> tuple[list[Pick], FloatArray]:
    """Read the table first, and then only the selected latents."""
    picks = picks_of(snapshot, wanted)
    shape = picks[0].shape if picks else (0, 0)
    latents = _array(sum(len(pick.rows) for pick in picks), shape)
    end = 0
    for pick in picks:
        start, end = end, end + len(pick.rows)
        if start < end:
            with open_latents(wanted.out, pick.name) as file:
                _fill(file, pick, latents[start:end])
    return picks, latents


def picks_of(
    snapshot: Snapshot, wanted: Wanted, files: Sequence[WrittenFile] | None = None
) -> list[Pick]:
    """Select rows by file, without reading latents.

    Args:
        snapshot: the output.
        wanted: columns and condition.
        files: of latents; all when None.

    Raises:
        SpecError: there is no such column, or ``where`` is not a condition.
        FatalError: a file is missing or damaged, or the files have latents of unlike shapes.
    """
    picks = []
    for each in snapshot.files(LATENTS) if files is None else files:
        with open_latents(wanted.out, each.name) as file:
            picks.append(_pick(snapshot, file, wanted))
    _check_shapes(snapshot, picks)
    return _matching(picks, wanted)


def _matching(picks: Sequence[Pick], wanted: Wanted) -> list[Pick]:
    """The rows that meet the condition, which is evaluated for all files at once."""
    from restyle.pipeline.results.query import matching

    if not picks or wanted.where is None:
        return list(picks)
    met = matching(pa.concat_tables([pick.table for pick in picks]), wanted.where)
    kept = []
    end = 0
    for pick in picks:
        start, end = end, end + len(pick.rows)
        here = met[start:end]
        table = pick.table.select(_shown(pick.table.column_names, wanted)).filter(pa.array(here))
        kept.append(Pick(pick.name, pick.shape, pick.rows[here], table))
    return kept


def _array(count: int, shape: tuple[int, int]) -> FloatArray:
    try:
        return np.empty((count, *shape), np.float32)
    except MemoryError as error:
        size = 4 * count * shape[0] * shape[1] / 2**30
        raise FatalError(
            f"{count} latents take {size:.0f} GiB, more than there is memory; read those alone "
            "that you need, with where"
        ) from error


def _fill(file: LatentFile, pick: Pick, target: FloatArray) -> None:
    file.read_into(pick.rows, target.reshape(len(pick.rows), pick.shape[0] * pick.shape[1]))


def _check_shapes(snapshot: Snapshot, picks: Sequence[Pick]) -> None:
    if any(pick.shape != picks[0].shape for pick in picks):
        raise FatalError(
            f"files in {snapshot.storage.shown(LATENTS)} have latents of unlike shapes"
        )


def _pick(snapshot: Snapshot, file: LatentFile, wanted: Wanted) -> Pick:
    present = [column for column in file.parquet.schema_arrow.names if column != "latent"]
    shown = _shown(present, wanted)
    # A condition may use any column.
    read = present if wanted.where is not None else list(dict.fromkeys([*_KEYS, *shown]))
    table = file.parquet.read(read, use_threads=False)
    kept = np.ones(table.num_rows, bool)
    if wanted.revisions == "current":
        kept &= np.asarray(snapshot.stands(table))
    if wanted.where is None:
        table = table.select(shown)
    if not kept.all():
        table = table.filter(pa.array(kept))
    return Pick(file.name, file.shape, np.flatnonzero(kept), table)


def _shown(present: Sequence[str], wanted: Wanted) -> list[str]:
    """The columns of the table that is returned."""
    if wanted.columns is None:
        return list(present)
    for name in wanted.columns:
        if name not in present and name != "latent":
            raise SpecError(f"latents have no column {name!r}; there are {', '.join(present)}")
    return [name for name in dict.fromkeys(wanted.columns) if name != "latent"]


def _frame(picks: Sequence[Pick], columns: Sequence[str] | None) -> pd.DataFrame:
    if picks:
        return pa.concat_tables([pick.table for pick in picks]).to_pandas(use_threads=False)
    import pandas as pd

    return pd.DataFrame(columns=list(columns or ()))
