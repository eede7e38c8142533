"""The sink: write a unit's files, then commit the unit by its ledger entry."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """A unit's rows, encoded as Parquet.

    Attributes:
        unit: Name of the unit.
        images: Number of inputs.
        faces: Number of faces with a row.
        rejects: Number of rejected inputs by reason.
        files: Parquet bytes and number of rows by dataset; datasets without rows are absent.
        metrics: Sums of each metric.
        seconds: Wall time in seconds by stage.
        step_seconds: As in :class:`UnitRecord`.
        notes: Remarks for the user on how inputs were read.
        worsened: As in :class:`UnitRecord`.
    """

    unit: str
    images: int
    faces: int
    rejects: dict[str, int]
    files: dict[str, tuple[bytes, int]]
    metrics: dict[str, MetricSums]
    seconds: dict[str, float]
    step_seconds: tuple[float, ...] = ()
    notes: Sequence[str] = ()
    worsened: dict[str, tuple[int, ...]] = field(default_factory=dict)


def write_unit(storage: Storage, encoded: EncodedUnit, fingerprint: str) -> UnitRecord:
    """Write a unit's files and commit it.

    Args:
        storage: the output.
        encoded: the unit's rows.
        fingerprint: the fingerprint of the run's settings.

    Returns:
        The committed ledger entry.

    Raises:
        FatalError: no space or no permission; the unit's files are removed again.
        TransientError: the store failed; the unit can be run again.
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
            step_seconds=encoded.step_seconds,
            notes=tuple(encoded.notes[:MOST_NOTES]),
            worsened=encoded.worsened,
        )
        commit(storage, record)
    except FatalError:
        # On a full disk, for example, no rows without an entry may remain.
        with contextlib.suppress(RestyleError):
            _take_back(storage, encoded.unit, files)
        raise
    return record


def _take_back(storage: Storage, unit: str, files: Sequence[WrittenFile]) -> None:
    """Remove the files of a unit, unless the unit has an entry.

    An entry can exist although its write reported a failure, or because another driver took over
    and committed the unit. If the lookup fails, the files stay.
    """
    if find(storage, unit) is None:
        for file in files:
            storage.delete(file.name)
