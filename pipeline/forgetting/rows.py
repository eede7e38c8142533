"""Removal of inputs from the committed files and entries of an output."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from restyle.core.errors import FatalError
from restyle.core.metrics.registry import find_metric
from restyle.pipeline.accounting.operation import Operation
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import REJECTS, STEPS, encode
from restyle.pipeline.ledger.entries import FileSet, MetricSums, UnitRecord, WrittenFile
from restyle.pipeline.ledger.manifest import PlanReader, Unit
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.ledger.part_names import dataset_of
from restyle.pipeline.ledger.revisions import OutdatedInputs, next_name, outdated_inputs
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import Storage
from restyle.pipeline.storage.lock import DriverLock

Tables = dict[str, pa.Table]
"""Rows by dataset."""


@dataclass(frozen=True, eq=False)
class RowRemoval:
    """Removes the rows of inputs from an output, entry by entry.

    Attributes:
        output: the output.
        operation: of the output.
        settings: of the output.
        image_ids: the inputs.
        lock: the driver's lock, which is confirmed before files are removed.
    """

    output: Output
    operation: Operation[Any]
    settings: Settings
    image_ids: frozenset[str]
    lock: DriverLock

    def rows(self, files: FileSet) -> Tables:
        """The rows of the inputs in the files of an entry."""
        ids = pa.array(sorted(self.image_ids), pa.string())
        found = {}
        for file in files.files:
            rows = read_rows(self.output.storage, file.name)
            rows = rows.filter(pc.is_in(rows["image_id"], ids))
            if rows.num_rows:
                found[dataset_of(file.name)] = rows
        return found

    def affected(self) -> list[FileSet]:
        """The entries with units of which an input is to be removed."""
        refs = {ref.name: ref for ref in self.output.manifest.units}
        plans = PlanReader(self.output.storage)
        return [
            files
            for files in self.output.sets()
            if any(
                image.image_id in self.image_ids
                for record in files.units
                if record.unit in refs
                for image in plans.read(refs[record.unit]).images
            )
        ]

    def remove(self) -> None:
        """Write the remaining rows of all affected entries, and remove the former files.

        Safe to kill at any moment and to call again.

        Raises:
            FatalError: a file is missing or damaged, or cannot be written.
        """
        output, storage = self.output, self.output.storage
        refs, plans = {ref.name: ref for ref in output.manifest.units}, PlanReader(storage)
        outdated = outdated_inputs(output.manifest, output.entries.units)
        for files in self.affected():
            self.lock.check()
            units = {each.unit: plans.read(refs[each.unit]) for each in files.units}
            tables = {file.name: read_rows(storage, file.name) for file in files.files}
            kept = self._kept(files, tables)
            records = [
                record
                for each in files.units
                if (record := self._record(each, units[each.unit], kept, outdated))
            ]
            self.lock.confirm()
            self._replace(files, records, kept)
        output.look()

    def _kept(self, files: FileSet, tables: Tables) -> Tables:
        ids = pa.array(sorted(self.image_ids), pa.string())
        return {
            file.name: tables[file.name].filter(
                pc.invert(pc.is_in(tables[file.name]["image_id"], ids))
            )
            for file in files.files
        }

    def _replace(self, files: FileSet, records: Sequence[UnitRecord], kept: Tables) -> None:
        storage, written = self.output.storage, []
        for file in files.files if records else ():
            if kept[file.name].num_rows == file.rows:
                written.append(file)
            elif kept[file.name].num_rows:
                written.append(_write(storage, next_name(files, file.name), kept[file.name]))
        if records:
            left = FileSet(tuple(records), tuple(written), files.pack, files.generation)
            ledger.replace(storage, left)
        else:
            ledger.remove(storage, files)
        for name in {file.name for file in files.files} - {file.name for file in written}:
            storage.delete(name)

    def _record(
        self, record: UnitRecord, unit: Unit, kept: Tables, outdated: OutdatedInputs
    ) -> UnitRecord | None:
        """The entry of a unit with what remains of it; None if nothing does."""
        left = [image for image in unit.images if image.image_id not in self.image_ids]
        if len(left) == len(unit.images):
            return record
        if not left:
            return None
        keys = {(image.image_id, image.revision) for image in left}
        of_unit = {dataset_of(name): _of(table, keys) for name, table in kept.items()}
        rejects = of_unit.get(REJECTS)
        reasons = Counter([] if rejects is None else rejects["reason"].to_pylist())
        rows = of_unit.get(self.operation.datasets[0])
        inputs = {key for table in of_unit.values() for key in _keys(table, _INPUT)}
        return record.model_copy(
            update={
                "images": len(left),
                "faces": 0 if rows is None else len(set(_keys(rows, _FACE))),
                "rejects": dict(sorted(reasons.items())),
                "metrics": self._metrics(record, of_unit.get(STEPS), rows),
                "superseded": len(outdated.get(record.unit, set()) - self.image_ids)
                if record.superseded
                else 0,
                "dropped": len(keys - inputs) if record.dropped else 0,
                # They may name any input.
                "notes": (),
                "worsened": _worsened(record, of_unit.get(STEPS)),
            }
        )

    def _metrics(
        self, record: UnitRecord, steps: pa.Table | None, rows: pa.Table | None
    ) -> dict[str, MetricSums]:
        """Sums over the remaining rows: of each step where these are kept, else of the last one."""
        own = None if rows is None else self.operation.sums_of(rows, self.settings)
        if own is not None:
            return own
        return {name: _sums(sums, name, steps, rows) for name, sums in record.metrics.items()}


_INPUT = ("image_id", "revision")
_FACE = (*_INPUT, "face")


def read_rows(storage: Storage, name: str) -> pa.Table:
    """Read a file of a dataset.

    Raises:
        FatalError: it is missing or damaged.
    """
    try:
        return parquet_of(storage.read(name)).read(use_threads=False)
    except (FileNotFoundError, pa.ArrowException, OSError) as error:
        raise FatalError(f"{storage.shown(name)} is damaged or missing; {DAMAGE}") from error


def _of(table: pa.Table, keys: Collection[tuple[str, int]]) -> pa.Table:
    return table.filter(pa.array([key in keys for key in _keys(table, _INPUT)], pa.bool_()))


def _keys(table: pa.Table, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """The values of some columns, row by row."""
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def _sums(
    former: MetricSums, name: str, steps: pa.Table | None, rows: pa.Table | None
) -> MetricSums:
    count = len(former.total)
    totals, counts = [0.0] * count, [0] * count
    if steps is not None and name in steps.column_names:
        pairs = zip(steps["step"].to_pylist(), steps[name].to_pylist(), strict=True)
    elif rows is not None and name in rows.column_names:
        pairs = zip([count] * rows.num_rows, rows[name].to_pylist(), strict=True)
    else:
        # What the sum was made of is not kept.
        return MetricSums(total=tuple(totals), count=tuple(counts))
    for step, value in pairs:
        if value is not None and np.isfinite(value) and 1 <= step <= count:
            totals[step - 1] += value
            counts[step - 1] += 1
    return MetricSums(total=tuple(totals), count=tuple(counts))


def _worsened(record: UnitRecord, steps: pa.Table | None) -> dict[str, tuple[int, ...]]:
    """As of the remaining faces; empty where their steps are not kept, so that it is not known."""
    if steps is None:
        return {}
    keys = _keys(steps, _FACE)
    rows = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    places = ([rows[key] for key in keys], np.subtract(steps["step"].to_numpy(), 1))
    counts = {}
    for name, former in record.worsened.items():
        metric = find_metric(name)
        if metric is not None and name in steps.column_names:
            values = np.full((len(rows), len(former) + 1), np.nan)
            values[places] = steps[name].to_pandas()
            counts[name] = metric.worsened(values)
    return counts


def _write(storage: Storage, name: str, rows: pa.Table) -> WrittenFile:
    data = encode(rows)
    storage.write(name, data)
    digest = hashlib.sha256(data).hexdigest()
    return WrittenFile(name=name, rows=rows.num_rows, size=len(data), sha256=digest)
