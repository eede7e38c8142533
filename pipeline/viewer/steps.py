"""Metrics of a face's steps, and the rejects of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from restyle.pipeline.ledger.datasets import REJECTS, STEPS, metric_columns
from restyle.pipeline.ledger.parquet_files import file_of, open_parquet
from restyle.pipeline.results.faces import Place
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.viewer.pictures import Cache, is_of

_REJECT_COLUMNS = ("image_id", "revision", "source", "stage", "reason", "message")


class Steps:
    """Reads the metrics of single faces, step by step.

    Args:
        out: the output, a path or any fsspec URI.
    """

    def __init__(self, out: str) -> None:
        self._out = out
        self._tables: Cache[str, pa.Table] = Cache(lambda table: table.nbytes, 128 * 2**20)

    def of(self, place: Place) -> list[dict[str, float | None]]:
        """Metrics and ``delta`` of steps 1 to N; empty if they were not saved.

        Raises:
            FatalError: the file is missing or damaged.
        """
        named = file_of(place.files, STEPS)
        if named is None:
            return []
        table = self._tables.get(named[0], lambda: self._read(named[0]))
        own = table.filter(is_of(place, table)).to_pylist()
        rows = sorted(own, key=lambda row: int(row["step"]))
        names = (*metric_columns(table.schema), "delta")
        return [{name: _number(row[name]) for name in names} for row in rows]

    def _read(self, name: str) -> pa.Table:
        with open_parquet(self._out, name) as parquet:
            metrics = metric_columns(parquet.schema_arrow)
            wanted = ["image_id", "revision", "face", "step", *metrics, "delta"]
            return parquet.read(wanted, use_threads=False)


class RejectTable:
    """The current rejects of a run.

    Args:
        snapshot: the run.

    Raises:
        FatalError: a file is missing or damaged.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        tables = []
        for file in snapshot.files(REJECTS):
            with open_parquet(snapshot.out, file.name) as parquet:
                table = parquet.read(list(_REJECT_COLUMNS), use_threads=False)
            tables.append(table.filter(pa.array(np.asarray(snapshot.stands(table)))))
        empty = pa.table({name: pa.array([], pa.string()) for name in _REJECT_COLUMNS})
        self._rows = pa.concat_tables(tables) if tables else empty

    def __len__(self) -> int:
        """Number of rejects."""
        return int(self._rows.num_rows)

    def reasons(self) -> dict[str, int]:
        """Number of rejects by reason, most frequent first."""
        counts = pc.value_counts(self._rows["reason"]).to_pylist()
        return {
            each["values"]: each["counts"]
            for each in sorted(counts, key=lambda each: (-each["counts"], each["values"]))
        }

    def select(self, name: str, reason: str, start: int, most: int) -> tuple[int, list[Any]]:
        """Count matching rejects and return some of them.

        Args:
            name: substring of source or message, ignoring case; empty for all.
            reason: of the rejects; empty for all.
            start: number of matching rejects to skip.
            most: maximum number of returned rows.

        Returns:
            The number of all matches; rows ``source``, ``stage``, ``reason``, ``message``.
        """
        rows = self._rows
        if reason:
            rows = rows.filter(pc.equal(rows["reason"], reason))
        if name:
            rows = rows.filter(
                pc.or_(
                    pc.match_substring(rows["source"], name, ignore_case=True),
                    pc.match_substring(rows["message"], name, ignore_case=True),
                )
            )
        shown = rows.select(_REJECT_COLUMNS[2:]).slice(start, most)
        return rows.num_rows, shown.to_pylist()


def _number(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
