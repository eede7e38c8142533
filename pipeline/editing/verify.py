"""The proof, from the files alone, that every face that was planned has every edit exactly once."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from restyle.pipeline.accounting.findings import (
    Verdict,
    columns,
    read_keys,
    repeated,
    stray_problems,
    unit_list_problems,
)
from restyle.pipeline.editing.rows import FOLDER, edit_schema
from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import latent_shape
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.manifest import PlanReader, Unit, read_units
from restyle.pipeline.ledger.part_names import file_name
from restyle.pipeline.ledger.planned_inputs import read_revisions
from restyle.pipeline.storage.filesystem import Storage


def verify_edits(storage: Storage, settings: EditSettings) -> Verdict:
    """Read every file of an output of edits and check it against manifest and ledger.

    One file is in memory at a time.

    Args:
        storage: the output.
        settings: of it.

    Raises:
        FatalError: manifest or ledger are damaged or cannot be read.
    """
    done = ledger.committed(storage)
    listed = read_units(storage)
    units = {unit.name: unit for unit in listed}
    ids, revisions = read_revisions(storage)
    inputs = zip(ids.tolist(), revisions.tolist(), strict=True)
    problems = [
        *repeated("(image_id, revision)", inputs, "the manifest"),
        *unit_list_problems(listed, done),
    ]
    plans = PlanReader(storage)
    # Files of a unit without an entry are overwritten when it is run again.
    named = {file_name(FOLDER, name, settings.fingerprint) for name in units if name not in done}
    count = images = faces = size = 0
    for files in ledger.read_file_sets(storage):
        (record,) = files.units
        if record.unit in units:
            unit = plans.read(units[record.unit])
            found = _unit_problems(storage, settings, unit, record)
            problems += [f"unit {record.unit}: {problem}" for problem in found]
            count += 1
            images += record.images
        named.update(file.name for file in files.files)
        faces += record.faces
        size += sum(file.size for file in files.files)
    problems += stray_problems(storage, [FOLDER], named)
    return Verdict(problems, count, images, faces, 0, size)


def _unit_problems(
    storage: Storage, settings: EditSettings, unit: Unit, record: UnitRecord
) -> Iterator[str]:
    if record.fingerprint != settings.fingerprint:
        yield "it was run with other settings"
    if len(record.files) != 1:
        yield f"it has {len(record.files)} files instead of one"
        return
    names = ("image_id", "revision", "face", "edit")
    rows = read_keys(
        storage,
        record.files[0],
        lambda found: edit_schema(settings, latent_shape(found)),
        names,
    )
    if isinstance(rows, str):
        yield rows
        return
    yield from _row_problems(settings, unit, record, rows)


def _row_problems(
    settings: EditSettings, unit: Unit, record: UnitRecord, rows: pa.Table
) -> Iterator[str]:
    edits: dict[tuple[str, int, int], list[int]] = {}
    for image_id, revision, face, edit in columns(rows, *rows.column_names):
        edits.setdefault((image_id, revision, face), []).append(edit)
    every = list(range(len(settings.combinations)))
    for key, found in edits.items():
        if sorted(found) != every:
            yield f"(image_id, revision, face) {key} does not have each of {len(every)} edits once"
    planned = {(image.image_id, image.revision) for image in unit.images}
    edited = {(image_id, revision) for image_id, revision, _ in edits}
    for image_id, revision in sorted(planned - edited):
        yield f"photograph {image_id} (revision {revision}) has no edits"
    for image_id, revision in sorted(edited - planned):
        yield f"photograph {image_id} (revision {revision}) is not one of this unit"
    if (record.images, record.faces) != (len(planned), len(edits)):
        yield (
            f"the ledger counts (photographs, faces) {(record.images, record.faces)}, the files "
            f"hold {(len(planned), len(edits))}"
        )
