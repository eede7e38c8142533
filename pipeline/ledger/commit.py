"""The sink: a unit's files first, its ledger entry last."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from restyle.core.errors import FatalError, RestyleError
from restyle.pipeline.ledger.entries import (
    MOST_NOTES,
    MetricSums,
    UnitRecord,
    WrittenFile,
    commit,
    find,
)
from restyle.pipeline.ledger.part_names import file_name
from restyle.pipeline.storage.filesystem import Storage


@dataclass(frozen=True, eq=False)
class EncodedUnit:
    """A unit's rows, ready to be written.

    Attributes:
        unit: the unit's name.
        images: number of inputs.
        faces: how many were found in them.
        rejects: inputs without a row, by reason.
        files: Parquet bytes and number of rows by dataset; none without rows.
        metrics: sums of each metric.
        seconds: wall time by stage.
        notes: what a person should know of how its inputs were read.
    """

    unit: str
    images: int
    faces: int
    rejects: dict[str, int]
    files: dict[str, tuple[bytes, int]]
    metrics: dict[str, MetricSums]
    seconds: dict[str, float]
    notes: Sequence[str] = ()


def write_unit(storage: Storage, encoded: EncodedUnit, fingerprint: str) -> UnitRecord:
    """Write a unit's files and commit it.

    Args:
        storage: the output.
        encoded: the unit's tables.
        fingerprint: of the run's settings.

    Returns:
        The entry as it stands in the ledger.

    Raises:
        FatalError: no space or no permission; the files of the unit have been taken back.
        TransientError: the store failed; the unit may be run again.
    """
    files = []
    try:
        for dataset, (data, rows) in encoded.files.items():
            name = file_name(dataset, encoded.unit, fingerprint)
            storage.write(name, data)
            digest = hashlib.sha256(data).hexdigest()
            files.append(WrittenFile(name=name, rows=rows, size=len(data), sha256=digest))
        record = UnitRecord(
            unit=encoded.unit,
            fingerprint=fingerprint,
            images=encoded.images,
            faces=encoded.faces,
            rejects=encoded.rejects,
            files=tuple(files),
            metrics=encoded.metrics,
            seconds=encoded.seconds,
            notes=tuple(encoded.notes[:MOST_NOTES]),
        )
        commit(storage, record)
    except FatalError:
        # A full disk: rows that no entry vouches for must not lie about.
        with contextlib.suppress(RestyleError):
            _take_back(storage, encoded.unit, files)
        raise
    return record


def _take_back(storage: Storage, unit: str, files: Sequence[WrittenFile]) -> None:
    """Remove the files of a unit that has no entry; where that cannot be found out, they stay.

    The entry may be there although its write failed, or be that of another driver, which took this
    one for dead.
    """
    if find(storage, unit) is None:
        for file in files:
            storage.delete(file.name)
