"""Outdated inputs, those with a later committed revision, and the removal of their rejects.

``rejects/`` holds current rejects only. When a rejected input is committed again, the cleanup
removes its older row: it writes the remaining rows under a new name, replaces the unit's entry by
one that names the new file, and removes the old file. If a run is killed between these steps, the
next run removes the files that no entry names.
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
"""Ids of the inputs with a later committed revision, by unit."""


def outdated_inputs(manifest: Manifest, done: set[str]) -> OutdatedInputs:
    """Find the inputs of committed units that have a later committed revision.

    Args:
        manifest: the output's manifest; its plans are read again if there are such inputs.
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
        # A mask avoids Arrow's expression threads, which can abort the interpreter at its exit.
        for row in rows.filter(pc.is_in(rows["image_id"], ids)).to_pylist():
            unit, image_id = row["unit"], row["image_id"]
            if unit in done and row["revision"] < newest[image_id]:
                found.setdefault(unit, set()).add(image_id)
    return found


def newest_revisions(manifest: Manifest, done: set[str]) -> dict[str, int]:
    """Return the newest committed revision, by id, of inputs with a committed revision above 1.

    Args:
        manifest: the output's manifest.
        done: names of the committed units.
    """
    newest: dict[str, int] = {}
    for unit in manifest.later.keys() & done:
        for image_id, revision in manifest.later[unit]:
            newest[image_id] = max(newest.get(image_id, 1), revision)
    return newest


def drop_outdated_rejects(output: Output) -> bool:
    """Remove outdated rejects from ``rejects/``. The caller must hold the driver's lock.

    Safe to kill at any moment and to call again; reads nothing if no input has a later revision.
    :func:`remove_unnamed` removes the replaced files.

    Returns:
        Whether any entry was replaced.

    Raises:
        FatalError: the manifest, the ledger or a file of rejects is damaged.
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
    """Return an entry without outdated rejects, after writing the file of the remaining ones."""
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
            name = next_name(files, old.name)
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


def next_name(files: FileSet, old: str) -> str:
    """Return the path of the file that replaces a file of an entry with fewer rows."""
    dataset, fingerprint, generation = dataset_of(old), files.fingerprint, 0
    while old != file_name(dataset, files.name, fingerprint, generation):
        generation += 1
    return file_name(dataset, files.name, fingerprint, generation + 1)


def remove_unnamed(output: Output, datasets: Sequence[str]) -> bool:
    """Remove files of committed units that no entry names. The caller must hold the driver's lock.

    Such files remain when a run is killed while it replaces a file, or when a suspended run
    resumes writing after another driver has taken over and merged its units.

    Args:
        output: the output; its ledger is read again before a removal, because a worker presumed
            dead may have committed a unit again with other files.
        datasets: names of the datasets to search.

    Returns:
        Whether any file was removed.
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
    """Return the files that belong to a committed unit or pack but are not named by its entry."""
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
    """Whether a file's metadata says that restyle wrote it to the dataset that it is in.

    Raises:
        FatalError, TransientError: the file cannot be read.
    """
    try:
        metadata = parquet_of(storage.read(name)).schema_arrow.metadata or {}
    except (FileNotFoundError, pa.ArrowException, OSError):
        return False
    return metadata.get(b"restyle.dataset") == dataset_of(name).encode()


def _stem(name: str, stems: set[str]) -> str:
    """Return a file name without extension and generation."""
    stem = name.removesuffix(".parquet")
    return stem if stem in stems else stem.rpartition("-")[0]
