"""Inputs of which a later revision was done: what they are, and how their rejects are dropped.

``rejects/`` is to show what stands now. So once an input that was rejected has been done again, the
older row is taken out of its unit's file: the rest is written under a new name, the unit's entry is
replaced by one that names it, and the old file is removed. Between any two of these steps a killed
run leaves files that no entry names, which the next run removes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from restyle.core.errors import FatalError
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import REJECTS, encode
from restyle.pipeline.ledger.entries import FileSet, WrittenFile
from restyle.pipeline.ledger.manifest import PlanReader, damaged, read_plans
from restyle.pipeline.ledger.output import Manifest, Output
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.ledger.part_names import dataset_of, file_name
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import Storage

OutdatedInputs = dict[str, set[str]]
"""By unit: ids of those of its inputs of which a later revision is done."""


def outdated_inputs(manifest: Manifest, done: set[str]) -> OutdatedInputs:
    """Which inputs were done again, or changed and were done again.

    Args:
        manifest: of the output. Its plans are read once more where there are such inputs.
        done: names of the committed units.

    Raises:
        FatalError: the manifest is damaged.
    """
    newest = newest_revisions(manifest, done)
    found: OutdatedInputs = {}
    if not newest:
        return found
    storage, ids = manifest.storage, pa.array(newest, pa.string())
    for file in read_plans(storage, manifest.plans):
        try:
            names = ["unit", "image_id", "revision"]
            rows = file.parquet.read(columns=names, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise damaged(storage, file.name, error) from error
        # By a mask: Arrow hands conditions to threads, which outlive the interpreter.
        for row in rows.filter(pc.is_in(rows["image_id"], ids)).to_pylist():
            unit, image_id = row["unit"], row["image_id"]
            if unit in done and row["revision"] < newest[image_id]:
                found.setdefault(unit, set()).add(image_id)
    return found


def newest_revisions(manifest: Manifest, done: set[str]) -> dict[str, int]:
    """The newest revision that is done, of those inputs alone that were done more than once.

    Args:
        manifest: of the output.
        done: names of the committed units.
    """
    newest: dict[str, int] = {}
    for unit in manifest.later.keys() & done:
        for image_id, revision in manifest.later[unit]:
            newest[image_id] = max(newest.get(image_id, 1), revision)
    return newest


def drop_outdated_rejects(output: Output) -> bool:
    """Take the rejects of older revisions out of ``rejects/``. The driver's lock must be held.

    May be killed at any moment and called again; costs nothing where no input was done again.
    Files that no entry names any more are left to :func:`remove_unnamed`.

    Returns:
        Whether anything was done.

    Raises:
        FatalError: manifest, ledger or a file of rejects is damaged.
    """
    storage, entries = output.storage, output.entries
    found = outdated_inputs(output.manifest, entries.units)
    if not found:
        return False
    refs, plans = {unit.name: unit for unit in output.manifest.units}, PlanReader(storage)
    packs = [FileSet.of_pack(pack) for pack in entries.packs]
    single = ledger.read_single(storage, sorted(found.keys() & entries.single))
    changed = False
    for files in [*packs, *single]:
        if any(unit.superseded != len(found.get(unit.unit, ())) for unit in files.units):
            older = {
                (image.image_id, image.revision): unit.unit
                for unit in files.units
                if unit.unit in found
                for image in plans.read(refs[unit.unit]).images
                if image.image_id in found[unit.unit]
            }
            ledger.replace(storage, _without(storage, files, older, found))
            changed = True
    if changed:
        output.look()
    return changed


def _without(
    storage: Storage, files: FileSet, older: dict[tuple[str, int], str], found: OutdatedInputs
) -> FileSet:
    """Units without the rejects of older revisions, the file of the others being written."""
    removed: Counter[tuple[str, str]] = Counter()
    left = list(files.files)
    old = next((file for file in left if file.name.startswith(f"{REJECTS}/")), None)
    if old is not None:
        table = _rejects(storage, old)
        rows = table.select(["image_id", "revision", "reason"]).to_pylist()
        units = [older.get((row["image_id"], row["revision"])) for row in rows]
        removed.update((unit, row["reason"]) for unit, row in zip(units, rows, strict=True) if unit)
        kept = table.filter(pa.array([unit is None for unit in units]))
        if kept.num_rows < table.num_rows:
            left.remove(old)
        if 0 < kept.num_rows < table.num_rows:
            name = _next_name(files, old.name)
            data = encode(kept)
            storage.write(name, data)
            digest = hashlib.sha256(data).hexdigest()
            left.append(WrittenFile(name=name, rows=kept.num_rows, size=len(data), sha256=digest))
    records = []
    for unit in files.units:
        fewer = {reason: n - removed[unit.unit, reason] for reason, n in unit.rejects.items()}
        update = {
            "rejects": {reason: n for reason, n in fewer.items() if n},
            "superseded": len(found.get(unit.unit, ())),
            "dropped": unit.dropped + sum(unit.rejects.values()) - sum(fewer.values()),
        }
        records.append(unit.model_copy(update=update))
    return FileSet(tuple(records), tuple(left), files.pack, files.generation)


def _rejects(storage: Storage, file: WrittenFile) -> pa.Table:
    try:
        return parquet_of(storage.read(file.name)).read(use_threads=False)
    except (FileNotFoundError, KeyError, pa.ArrowException, OSError) as error:
        raise FatalError(f"{storage.shown(file.name)} is damaged or missing; {DAMAGE}") from error


def _next_name(files: FileSet, old: str) -> str:
    generation = 0
    while old != _rejects_name(files, generation):
        generation += 1
    return _rejects_name(files, generation + 1)


def _rejects_name(files: FileSet, generation: int = 0) -> str:
    return file_name(REJECTS, files.name, files.units[0].fingerprint, generation)


def remove_unnamed(output: Output, datasets: Sequence[str]) -> bool:
    """Remove files of units that are done which no entry names. The driver's lock must be held.

    They are left by a run that was killed while it replaced a file, or that woke up after another
    had taken over and merged what it was still writing.

    Args:
        output: where; its ledger is looked at again before anything is removed, because a worker
            that was thought dead may have committed a unit once more, with other files.
        datasets: where to look.

    Returns:
        Whether there were any.
    """
    names = [name for dataset in datasets for name in output.files(dataset)]
    if not _unnamed(names, output.sets()):
        return False
    output.look()
    unnamed = [name for name in _unnamed(names, output.sets()) if is_marked(output.storage, name)]
    for name in unnamed:
        output.storage.delete(name)
    return bool(unnamed)


def _unnamed(names: Sequence[str], looked_at: Sequence[FileSet]) -> list[str]:
    """Files of units that are done which none of the entries names."""
    named = {file.name for files in looked_at for file in files.files}
    owners = {files.name: files.fingerprint for files in looked_at}
    owners |= {unit.unit: unit.fingerprint for files in looked_at for unit in files.units}
    stems = {file_name("", *owner).removesuffix(".parquet") for owner in owners.items()}
    return [
        name
        for name in names
        if name not in named and _stem(name.removeprefix(dataset_of(name)), stems) in stems
    ]


def is_marked(storage: Storage, name: str) -> bool:
    """Whether a file says of itself that this project wrote it, into the folder where it lies.

    Raises:
        FatalError, TransientError: it cannot be read.
    """
    try:
        metadata = parquet_of(storage.read(name)).schema_arrow.metadata or {}
    except (FileNotFoundError, pa.ArrowException, OSError):
        return False
    return metadata.get(b"restyle.dataset") == dataset_of(name).encode()


def _stem(name: str, stems: set[str]) -> str:
    """A file's name without ending and generation."""
    stem = name.removesuffix(".parquet")
    return stem if stem in stems else stem.rpartition("-")[0]
