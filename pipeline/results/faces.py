"""Table of a run's faces with keys, sources and metrics, for searching and sorting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from restyle.pipeline.ledger.datasets import LATENTS, metric_columns
from restyle.pipeline.ledger.entries import FileSet
from restyle.pipeline.ledger.parquet_files import file_of, open_parquet
from restyle.pipeline.results.snapshot import Snapshot

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

_KEYS = ("image_id", "revision", "face", "source")


@dataclass(frozen=True)
class Range:
    """Inclusive bounds of a metric; None for no bound."""

    metric: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Selection:
    """Filter and order of faces.

    Attributes:
        name: substring of the source, ignoring case.
        ranges: all must hold; faces without the metric are excluded.
        sort: a metric, ``source``, or empty for the order of the input.
        is_falling: whether to sort from the largest to the smallest.
    """

    name: str = ""
    ranges: Sequence[Range] = ()
    sort: str = ""
    is_falling: bool = False


@dataclass(frozen=True, eq=False)
class Place:
    """Location of a face's rows.

    Attributes:
        files: its unit or pack.
        row: index in the file of latents.
        image_id: of its input.
        revision: of its input.
        face: index in its photograph.
    """

    files: FileSet
    row: int
    image_id: str
    revision: int
    face: int

    @property
    def key(self) -> str:
        """``IMAGE_ID/FACE``, which names the face on pages."""
        return f"{self.image_id}/{self.face}"


@dataclass(frozen=True, eq=False)
class FaceTable:
    """All faces of a run's newest revisions; a face's number is its index.

    Attributes:
        rows: columns ``image_id``, ``revision``, ``face`` and ``source``.
        metrics: [N] by name, NaN for missing values; without metrics that no face has.
        sets: units and packs.
        set_of: [N] index of each face's unit or pack.
        row_of: [N] index of its row there.
    """

    rows: pa.Table
    metrics: dict[str, FloatArray]
    sets: Sequence[FileSet]
    set_of: IntArray
    row_of: IntArray

    def __len__(self) -> int:
        """Number of faces."""
        return int(self.rows.num_rows)

    def select(self, wanted: Selection, by: FloatArray | None = None) -> IntArray:
        """Numbers of the selected faces, in order.

        Args:
            wanted: filter and order.
            by: [N] values to sort by in place of ``wanted.sort``.

        Returns:
            Numbers; faces without the value of the order come last.
        """
        kept = np.ones(len(self), bool)
        if wanted.name:
            found = pc.match_substring(self.rows["source"], wanted.name, ignore_case=True)
            kept &= np.asarray(found)
        for each in wanted.ranges:
            values = self.metrics.get(each.metric, np.full(len(self), np.nan, np.float32))
            low = -np.inf if each.low is None else each.low
            high = np.inf if each.high is None else each.high
            kept &= (values >= low) & (values <= high)
        numbers = np.flatnonzero(kept)
        return numbers[self._order(numbers, wanted, by)]

    def place(self, number: int) -> Place:
        """Location of a face's rows."""
        row = self.row(number)
        return Place(
            self.sets[self.set_of[number]],
            int(self.row_of[number]),
            row["image_id"],
            row["revision"],
            row["face"],
        )

    def row(self, number: int) -> dict[str, Any]:
        """Key and source of a face."""
        found: dict[str, Any] = self.rows.slice(number, 1).to_pylist()[0]
        return found

    def find(self, image_id: str, face: int) -> int:
        """Number of a face by its input and its number there, or -1."""
        same = pc.equal(self.rows["image_id"], image_id)
        found = pc.and_(same, pc.equal(self.rows["face"], face))
        return int(pc.index(found, True).as_py())

    def values(self, number: int) -> dict[str, float | None]:
        """Metrics of a face's last step; None for values that are not finite."""
        found = {name: float(values[number]) for name, values in self.metrics.items()}
        return {name: value if np.isfinite(value) else None for name, value in found.items()}

    def ends(self) -> list[str]:
        """The first and the last source in alphabetical order; empty without faces."""
        if not len(self):
            return []
        ends = pc.min_max(self.rows["source"])
        return [ends["min"].as_py(), ends["max"].as_py()]

    def partners(self, other: FaceTable) -> IntArray:
        """Number of the same face of the same input in another run, or -1, [N]."""
        found = pc.index_in(_keys(self.rows), _keys(other.rows))
        numbers: IntArray = np.asarray(pc.fill_null(found, -1)).astype(np.int64)
        return numbers

    def _order(self, numbers: IntArray, wanted: Selection, by: FloatArray | None) -> IntArray:
        if by is None and wanted.sort == "source":
            names = self.rows["source"].take(pa.array(numbers))
            order = np.asarray(pc.sort_indices(names)).astype(np.int64)
            return order[::-1] if wanted.is_falling else order
        values = self.metrics.get(wanted.sort) if by is None else by
        if values is None:
            order = np.arange(len(numbers))
            return order[::-1] if wanted.is_falling else order
        # NaN sorts last in both directions; the sort is stable.
        chosen = values[numbers]
        return np.argsort(-chosen if wanted.is_falling else chosen, kind="stable")


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["image_id"], pc.cast(rows["face"], pa.string()), "/")


def read_faces(snapshot: Snapshot) -> FaceTable:
    """Read the table of a run's faces, about ten megabytes for 100,000 faces.

    Raises:
        FatalError: a file is missing or damaged.
    """
    tables: list[pa.Table] = []
    set_of: list[IntArray] = []
    row_of: list[IntArray] = []
    out = snapshot.out
    for number, files in enumerate(snapshot.sets):
        named = file_of(files, LATENTS)
        if named is None:
            continue
        with open_parquet(out, named[0]) as parquet:
            names = [*_KEYS, *metric_columns(parquet.schema_arrow)]
            table = parquet.read(names, use_threads=False)
        kept = np.flatnonzero(np.asarray(snapshot.stands(table)))
        tables.append(table.take(pa.array(kept)) if len(kept) < table.num_rows else table)
        set_of.append(np.full(len(kept), number))
        row_of.append(kept)
    if not tables:
        empty = np.zeros(0, np.int64)
        kinds = {"revision": pa.int16(), "face": pa.int16()}
        rows = pa.table({name: pa.array([], kinds.get(name, pa.string())) for name in _KEYS})
        return FaceTable(rows, {}, snapshot.sets, empty, empty)
    rows = pa.concat_tables(tables).combine_chunks()
    metrics = {
        name: rows[name].to_numpy().astype(np.float32)
        for name in metric_columns(rows.schema)
        if rows[name].null_count < rows.num_rows
    }
    return FaceTable(
        rows.select(_KEYS), metrics, snapshot.sets, np.concatenate(set_of), np.concatenate(row_of)
    )
