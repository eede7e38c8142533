"""The proof, from the files alone, that every input is accounted for exactly once."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import ledger
from pipeline.datasets import (
    DATASETS,
    LATENTS,
    RECONSTRUCTIONS,
    REJECTS,
    STEPS,
    latent_shape,
    schema,
)
from pipeline.known import read_revisions
from pipeline.ledger import UnitRecord, WrittenFile
from pipeline.manifest import PlanReader, Unit, UnitRef, read_units
from pipeline.settings import ResolvedSettings
from pipeline.sink import file_name
from pipeline.status import settings_of
from pipeline.storage import Storage, open_storage
from pipeline.superseded import superseded_by
from restyle_core.errors import RestyleError

Key = tuple[str, int, int]
"""Image, revision and number of the face."""

Tables = dict[str, pa.Table]


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` found.

    Attributes:
        problems: one line each; the output is sound when there are none.
        units: units that were read.
        images: their inputs, without rejects that were tried again since.
        faces: rows in their ``latents``.
        rejects: rows in their ``rejects``.
        size: bytes that were read.
    """

    problems: list[str]
    units: int
    images: int
    faces: int
    rejects: int
    size: int


def verify(out: str) -> Verdict:
    """Read every file of an output and check it against manifest and ledger.

    One unit is in memory at a time.

    Raises:
        SpecError: there is no output at this place.
        FatalError: manifest or ledger are damaged or cannot be read.
    """
    storage = open_storage(out)
    settings = settings_of(storage)
    done = ledger.committed(storage)
    units = read_units(storage)
    problems = [*_manifest_problems(storage), *_unit_list_problems(units, done)]
    superseded = superseded_by(storage, done)
    plans = PlanReader(storage)
    # Files of a unit without an entry are overwritten when it is run again.
    named = {
        file_name(dataset, unit.name, settings.fingerprint)
        for unit in units
        if unit.name not in done
        for dataset in DATASETS
    }
    images = faces = rejects = size = 0
    run = [unit for unit in units if unit.name in done]
    for ref in run:
        (record,) = ledger.read_records(storage, [ref.name])
        older = superseded.get(ref.name, set())
        problems += _unit_problems(storage, settings, plans.read(ref), record, older)
        named.update(file.name for file in record.files)
        images += ref.images - record.dropped
        faces += record.faces
        rejects += sum(record.rejects.values())
        size += sum(file.size for file in record.files)
    problems += _stray_problems(storage, named)
    return Verdict(problems, len(run), images, faces, rejects, size)


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


def _unit_list_problems(units: Sequence[UnitRef], done: set[str]) -> Iterator[str]:
    for name, times in Counter(unit.name for unit in units).items():
        if times > 1:
            yield f"unit {name} stands {times} times in the manifest"
    for name in sorted(done - {unit.name for unit in units}):
        yield f"unit {name} is in the ledger but not in the manifest"
    pending = [unit for unit in units if unit.name not in done]
    if pending:
        images = sum(unit.images for unit in pending)
        yield (f"{images} inputs in {len(pending)} units are not done; run the same command again")


def _stray_problems(storage: Storage, named: set[str]) -> Iterator[str]:
    for dataset in DATASETS:
        for name in storage.sizes(dataset):
            if name not in named:
                yield f"{storage.shown(name)} belongs to no unit of this output"


def _unit_problems(
    storage: Storage,
    settings: ResolvedSettings,
    unit: Unit,
    record: UnitRecord,
    superseded: set[str],
) -> Iterator[str]:
    if record.fingerprint != settings.fingerprint:
        yield f"unit {unit.name} was run with other settings"
    tables: Tables = {}
    for file in record.files:
        read = _read(storage, settings, file)
        if isinstance(read, str):
            yield read
        else:
            tables[file.name.partition("/")[0]] = read
    if len(tables) == len(record.files):
        for problem in _row_problems(settings, unit, record, tables, superseded):
            yield f"unit {unit.name}: {problem}"


def _read(storage: Storage, settings: ResolvedSettings, file: WrittenFile) -> pa.Table | str:
    """A file's table, or what is wrong with the file."""
    where = storage.shown(file.name)
    try:
        data = storage.read(file.name)
    except FileNotFoundError:
        return f"{where} is missing"
    except RestyleError as error:
        return str(error)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        return f"{where} is not what was committed (checksum)"
    try:
        table = pq.read_table(io.BytesIO(data))
        expected = schema(file.name.partition("/")[0], settings, latent_shape(table.schema))
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"{where} cannot be read: {' '.join(str(error).split())}"
    if not table.schema.equals(expected, check_metadata=False):
        return f"{where} has other columns than this version writes"
    if table.num_rows != file.rows:
        return f"{where} has {table.num_rows} rows instead of {file.rows}"
    return table


def _row_problems(
    settings: ResolvedSettings,
    unit: Unit,
    record: UnitRecord,
    tables: Tables,
    superseded: set[str],
) -> Iterator[str]:
    """What is wrong with the rows of one unit, whichever files they were read from."""
    planned = {(image.image_id, image.revision) for image in unit.images}
    faces = _keys(tables.get(LATENTS))
    rejected = _inputs(tables.get(REJECTS))
    inverted = {(image_id, revision) for image_id, revision, _ in faces}
    found = inverted | set(rejected)
    # The reject of an input of which a later revision is done may be there or not.
    dropped = {(i, r) for i, r in planned - found if i in superseded}
    yield from _repeated("(image_id, revision, face)", faces, LATENTS)
    yield from _repeated("(image_id, revision)", rejected, REJECTS)
    for image_id, revision in sorted(inverted & set(rejected)):
        yield f"input {image_id} (revision {revision}) stands in both latents and rejects"
    for image_id, revision in sorted(planned - found - dropped):
        yield f"input {image_id} (revision {revision}) stands in neither latents nor rejects"
    for image_id, revision in sorted(found - planned):
        yield f"input {image_id} (revision {revision}) is not one of this unit"
    counted = (record.images, record.faces, sum(record.rejects.values()), record.dropped)
    counts = (len(planned), len(faces), len(rejected), len(dropped))
    if counted != counts:
        yield (
            f"the ledger counts (inputs, faces, rejects, dropped) {counted}, "
            f"the files hold {counts}"
        )
    yield from _face_problems(settings, faces, tables)


def _face_problems(
    settings: ResolvedSettings, faces: Sequence[Key], tables: Tables
) -> Iterator[str]:
    if LATENTS in tables:
        values = tables[LATENTS].column("latent").combine_chunks().flatten().to_numpy()
        if not np.isfinite(values).all():
            yield "latents hold values that are not finite"
    kept = {"none": [], "last": [0, settings.steps], "all": list(range(settings.steps + 1))}
    steps = [] if settings.save_steps == "none" else list(range(1, settings.steps + 1))
    for dataset, wanted in ((STEPS, steps), (RECONSTRUCTIONS, kept[settings.reconstructions])):
        if _step_keys(tables.get(dataset)) != sorted(
            (*key, step) for key in faces for step in wanted
        ):
            yield f"{dataset} does not hold each face's steps once"


def _repeated(what: str, values: Iterable[object], dataset: str) -> Iterator[str]:
    for value, times in Counter(values).items():
        if times > 1:
            yield f"{what} {value} stands {times} times in {dataset}"


def _inputs(table: pa.Table | None) -> list[tuple[str, int]]:
    return [] if table is None else list(_columns(table, "image_id", "revision"))


def _keys(table: pa.Table | None) -> list[Key]:
    return [] if table is None else list(_columns(table, "image_id", "revision", "face"))


def _step_keys(table: pa.Table | None) -> list[tuple[str, int, int, int]]:
    if table is None:
        return []
    return sorted(_columns(table, "image_id", "revision", "face", "step"))


def _hex(image_id: bytes) -> str:
    # numpy takes zeros at the end of bytes for padding.
    return image_id.ljust(16, b"\0").hex()


def _columns(table: pa.Table, *names: str) -> Iterator[Any]:
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
