"""Inputs of which a later revision was done: what they are, and how their rejects are dropped.

``rejects/`` is to show what stands now. So once an input that was rejected has been done again, the
older row is taken out of its unit's file: the rest is written under a new name, the unit's entry is
replaced by one that names it, and the old file is removed. Between any two of these steps a killed
run leaves files that no entry names, which the next run removes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import ledger
from pipeline.datasets import REJECTS, encode
from pipeline.ledger import UnitRecord, WrittenFile
from pipeline.manifest import PlanFile, UnitRef, damaged, read_plans
from pipeline.sink import file_name
from pipeline.storage import Storage
from restyle_core.errors import FatalError

Superseded = dict[str, set[str]]
"""By unit: ids of those of its inputs of which a later revision is done."""


def superseded_by(storage: Storage, done: set[str]) -> Superseded:
    """Which inputs were done again, or changed and were done again.

    Args:
        storage: the output.
        done: names of the committed units.

    Raises:
        FatalError: the manifest is damaged.
    """
    newest: dict[str, int] = {}
    for _, rows in _rows(storage, pc.field("revision") > 1, done):
        for image_id, revision in _pairs(rows):
            newest[image_id] = max(newest.get(image_id, 1), revision)
    found: Superseded = {}
    if not newest:
        return found
    ids = pa.array(newest, pa.string())
    for unit, rows in _rows(storage, pc.field("image_id").isin(ids), done):
        older = {image_id for image_id, revision in _pairs(rows) if revision < newest[image_id]}
        if older:
            found[unit.name] = older
    return found


def drop_superseded_rejects(storage: Storage) -> bool:
    """Take the rejects of older revisions out of ``rejects/``. The driver's lock must be held.

    May be killed at any moment and called again; costs one look at the manifest when there is
    nothing to drop.

    Returns:
        Whether anything was done.

    Raises:
        FatalError: manifest, ledger or a file of rejects is damaged.
    """
    found = superseded_by(storage, ledger.committed(storage))
    names = sorted(found)
    changed = False
    for record in ledger.read_records(storage, names):
        ids = found[record.unit]
        if record.superseded != len(ids):
            ledger.commit(storage, _without(storage, record, ids))
            changed = True
    return _remove_unnamed(storage, names) or changed


def _without(storage: Storage, record: UnitRecord, ids: set[str]) -> UnitRecord:
    """A unit's entry without the rejects of these ids, its file of the others being written."""
    old = next((file for file in record.files if file.name.startswith(f"{REJECTS}/")), None)
    if old is None:
        return record.model_copy(update={"superseded": len(ids)})
    try:
        table = pq.read_table(io.BytesIO(storage.read(old.name)))
        is_old = pc.is_in(table.column("image_id"), pa.array(sorted(ids), pa.string()))
    except (FileNotFoundError, KeyError, pa.ArrowException, OSError) as error:
        raise FatalError(
            f"{storage.shown(old.name)} is damaged or missing; `restyle verify` tells what else is"
        ) from error
    kept = table.filter(pc.invert(is_old))
    files = [file for file in record.files if file is not old]
    if kept.num_rows == table.num_rows:
        return record.model_copy(update={"superseded": len(ids)})
    if kept.num_rows:
        name = _next_name(record, old.name)
        data = encode(kept)
        storage.write(name, data)
        digest = hashlib.sha256(data).hexdigest()
        files.append(WrittenFile(name=name, rows=kept.num_rows, size=len(data), sha256=digest))
    reasons = kept.column("reason").to_pylist()
    return record.model_copy(
        update={
            "rejects": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
            "files": tuple(files),
            "superseded": len(ids),
            "dropped": record.dropped + table.num_rows - kept.num_rows,
        }
    )


def _next_name(record: UnitRecord, old: str) -> str:
    generation = 0
    while old != file_name(REJECTS, record.unit, record.fingerprint, generation):
        generation += 1
    return file_name(REJECTS, record.unit, record.fingerprint, generation + 1)


def _remove_unnamed(storage: Storage, units: list[str]) -> bool:
    """Remove files of rejects of these units that their entries do not name."""
    if not units:
        return False
    named, prefixes = set[str](), set[str]()
    for record in ledger.read_records(storage, units):
        named.update(file.name for file in record.files)
        first = file_name(REJECTS, record.unit, record.fingerprint)
        prefixes.add(first.removesuffix(".parquet"))
    unnamed = [
        name
        for name in storage.sizes(REJECTS)
        if name not in named and _stem(name, prefixes) in prefixes
    ]
    for name in unnamed:
        storage.delete(name)
    return bool(unnamed)


def _stem(name: str, prefixes: set[str]) -> str:
    """A file's name without ending and generation."""
    stem = name.removesuffix(".parquet")
    return stem if stem in prefixes else stem.rpartition("-")[0]


def _rows(
    storage: Storage, wanted: pc.Expression, done: set[str]
) -> Iterator[tuple[UnitRef, pa.Table]]:
    """The rows of the manifest that a condition picks, unit by unit, of committed units alone."""
    for file in read_plans(storage):
        table = _read(storage, file).filter(wanted)
        if not table.num_rows:
            continue
        of_unit = table.column("unit")
        for unit in file.units:
            if unit.name in done:
                rows = table.filter(pc.equal(of_unit, unit.name))
                if rows.num_rows:
                    yield unit, rows


def _read(storage: Storage, file: PlanFile) -> pa.Table:
    try:
        return file.parquet.read(columns=["unit", "image_id", "revision"])
    except (pa.ArrowException, OSError) as error:
        raise damaged(storage, file.name, error) from error


def _pairs(rows: pa.Table) -> Iterable[tuple[str, int]]:
    return zip(
        rows.column("image_id").to_pylist(), rows.column("revision").to_pylist(), strict=True
    )
