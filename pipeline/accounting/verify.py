"""The proof, from the files alone, that every input is accounted for exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from restyle.pipeline.accounting.findings import (
    Verdict,
    columns,
    read_keys,
    repeated,
    stray_problems,
    unit_list_problems,
)
from restyle.pipeline.accounting.status import settings_of
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import (
    DATASETS,
    LATENTS,
    RECONSTRUCTIONS,
    REJECTS,
    STEPS,
    latent_shape,
    schema,
)
from restyle.pipeline.ledger.entries import Entries, FileSet, WrittenFile
from restyle.pipeline.ledger.manifest import PlanReader, Unit, read_units
from restyle.pipeline.ledger.part_names import file_name
from restyle.pipeline.ledger.planned_inputs import read_revisions
from restyle.pipeline.ledger.revisions import superseded_by
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.storage.filesystem import Storage, open_storage

Key = tuple[str, int, int]
"""Image, revision and number of the face."""

Tables = dict[str, pa.Table]
"""Key columns by dataset."""

_KEYS = ("image_id", "revision", "face", "step", "steps")


def verify(out: str) -> Verdict:
    """Read every file of an output and check it against manifest and ledger.

    One file is in memory at a time, and the keys of one unit or pack.

    Raises:
        SpecError: there is no output at this place.
        FatalError: manifest or ledger are damaged or cannot be read.
    """
    storage = open_storage(out)
    settings = settings_of(storage)
    entries = ledger.read_entries(storage)
    done = entries.units
    listed = read_units(storage)
    units = {unit.name: unit for unit in listed}
    problems = [
        *_manifest_problems(storage),
        *unit_list_problems(listed, done),
        *_leftover_problems(entries),
    ]
    superseded = superseded_by(storage, done)
    plans = PlanReader(storage)
    # Files of a unit without an entry are overwritten when it is run again.
    named = {
        file_name(dataset, name, settings.fingerprint)
        for name in units
        if name not in done
        for dataset in DATASETS
    }
    count = images = faces = rejects = size = 0
    for files in ledger.read_file_sets(storage, entries):
        planned = [plans.read(units[each.unit]) for each in files.units if each.unit in units]
        older = {
            (image.image_id, image.revision)
            for unit in planned
            for image in unit.images
            if image.image_id in superseded.get(unit.name, ())
        }
        problems += _set_problems(storage, settings, planned, files, older)
        named.update(file.name for file in files.files)
        count += len(planned)
        images += sum(each.images - each.dropped for each in files.units if each.unit in units)
        faces += files.faces
        rejects += sum(sum(each.rejects.values()) for each in files.units)
        size += sum(file.size for file in files.files)
    problems += stray_problems(storage, DATASETS, named)
    return Verdict(problems, count, images, faces, rejects, size)


def _manifest_problems(storage: Storage) -> Iterator[str]:
    """Inputs that were planned twice, or again without having been planned before."""
    ids, revisions = read_revisions(storage)
    order = np.lexsort((revisions, ids))
    ids, revisions = ids[order], revisions[order]
    is_same = np.append(False, ids[1:] == ids[:-1])
    expected = np.where(is_same, np.append(0, revisions[:-1]) + 1, 1)
    is_twice = is_same & (revisions == np.append(0, revisions[:-1]))
    for index in np.flatnonzero(is_twice):
        yield f"revision {revisions[index]} of input {_hex(ids[index])} is planned twice"
    for index in np.flatnonzero(~is_twice & (revisions != expected)):
        yield (
            f"revision {revisions[index]} of input {_hex(ids[index])} is planned, but "
            f"{expected[index]} is not"
        )


def _leftover_problems(entries: Entries) -> Iterator[str]:
    if entries.outdated or entries.replaced:
        yield (
            f"{len(entries.outdated)} units and {len(entries.replaced)} packs were merged by a "
            "compaction that was stopped before it removed them, so readers of the folders see "
            "rows twice; run restyle compact, or any run, to finish"
        )


def _set_problems(
    storage: Storage,
    settings: ResolvedSettings,
    planned: Sequence[Unit],
    files: FileSet,
    superseded: set[tuple[str, int]],
) -> Iterator[str]:
    """What is wrong with a unit, or with the units of a pack, which are looked at as one."""
    for record in files.units:
        if record.fingerprint != settings.fingerprint:
            yield f"unit {record.unit} was run with other settings"
    tables: Tables = {}
    for file in files.files:
        read = _read(storage, settings, file)
        if isinstance(read, str):
            yield read
        else:
            tables[file.name.partition("/")[0]] = read
    if len(planned) == len(files.units) and len(tables) == len(files.files):
        what = f"pack {files.pack}" if files.pack else f"unit {files.units[0].unit}"
        for problem in _row_problems(settings, planned, files, tables, superseded):
            yield f"{what}: {problem}"


def _read(storage: Storage, settings: ResolvedSettings, file: WrittenFile) -> pa.Table | str:
    dataset = file.name.partition("/")[0]
    return read_keys(
        storage, file, lambda found: schema(dataset, settings, latent_shape(found)), _KEYS
    )


def _row_problems(
    settings: ResolvedSettings,
    units: Sequence[Unit],
    files: FileSet,
    tables: Tables,
    superseded: set[tuple[str, int]],
) -> Iterator[str]:
    """What is wrong with the rows of units that stand in the same files."""
    planned = {(image.image_id, image.revision) for unit in units for image in unit.images}
    faces = _keys(tables.get(LATENTS))
    rejected = _inputs(tables.get(REJECTS))
    inverted = {(image_id, revision) for image_id, revision, _ in faces}
    found = inverted | set(rejected)
    # The reject of an input of which a later revision is done may be there or not.
    dropped = (planned - found) & superseded
    yield from repeated("(image_id, revision, face)", faces, LATENTS)
    yield from repeated("(image_id, revision)", rejected, REJECTS)
    for image_id, revision in sorted(inverted & set(rejected)):
        yield f"input {image_id} (revision {revision}) stands in both latents and rejects"
    for image_id, revision in sorted(planned - found - dropped):
        yield f"input {image_id} (revision {revision}) stands in neither latents nor rejects"
    for image_id, revision in sorted(found - planned):
        yield f"input {image_id} (revision {revision}) is not one of this unit"
    records = files.units
    counted = (
        sum(record.images for record in records),
        files.faces,
        sum(sum(record.rejects.values()) for record in records),
        sum(record.dropped for record in records),
    )
    counts = (len(planned), len(faces), len(rejected), len(dropped))
    if counted != counts:
        yield (
            f"the ledger counts (inputs, faces, rejects, dropped) {counted}, "
            f"the files hold {counts}"
        )
    yield from _face_problems(settings, tables)


def _face_problems(settings: ResolvedSettings, tables: Tables) -> Iterator[str]:
    latents = tables.get(LATENTS)
    names = ("image_id", "revision", "face", "steps")
    faces = [] if latents is None else list(columns(latents, *names))
    fewest = settings.steps if settings.tolerance is None else 1
    if not all(fewest <= taken <= settings.steps for *_, taken in faces):
        yield f"{LATENTS} holds faces that took another number of steps than was asked for"

    def wanted(dataset: str, taken: int) -> Iterable[int]:
        if dataset == STEPS:
            return range(1, taken + 1) if settings.save_steps != "none" else ()
        kept = {"none": (), "last": (0, taken), "all": range(taken + 1)}
        return kept[settings.reconstructions]

    for dataset in (STEPS, RECONSTRUCTIONS):
        if _step_keys(tables.get(dataset)) != sorted(
            (*key, step) for *key, taken in faces for step in wanted(dataset, taken)
        ):
            yield f"{dataset} does not hold each face's steps once"


def _inputs(table: pa.Table | None) -> list[tuple[str, int]]:
    return [] if table is None else list(columns(table, "image_id", "revision"))


def _keys(table: pa.Table | None) -> list[Key]:
    return [] if table is None else list(columns(table, "image_id", "revision", "face"))


def _step_keys(table: pa.Table | None) -> list[tuple[str, int, int, int]]:
    if table is None:
        return []
    return sorted(columns(table, "image_id", "revision", "face", "step"))


def _hex(image_id: bytes) -> str:
    # numpy takes zeros at the end of bytes for padding.
    return image_id.ljust(16, b"\0").hex()
