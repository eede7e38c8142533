"""The proof, from the files alone, that every input is accounted for exactly once."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

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
from pipeline.ledger import UnitRecord, WrittenFile
from pipeline.manifest import PlanReader, Unit, read_units
from pipeline.settings import ResolvedSettings
from pipeline.sink import file_name
from pipeline.status import settings_of
from pipeline.storage import Storage, open_storage
from restyle_core.errors import RestyleError

Key = tuple[str, int]
Tables = dict[str, pa.Table]


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` found.

    Attributes:
        problems: one line each; the output is sound when there are none.
        units: units that were read.
        images: their inputs.
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
    reader = PlanReader(storage)
    units = [reader.read(ref) for ref in read_units(storage)]
    done = ledger.committed(storage)
    problems = [*_manifest_problems(units, done), *_stray_problems(storage, settings, units)]
    run = [unit for unit in units if unit.name in done]
    faces = rejects = size = 0
    for unit in run:
        (record,) = ledger.read_records(storage, [unit.name])
        problems += _unit_problems(storage, settings, unit, record)
        faces += record.faces
        rejects += sum(record.rejects.values())
        size += sum(file.size for file in record.files)
    images = sum(len(unit.images) for unit in run)
    return Verdict(problems, len(run), images, faces, rejects, size)


def _manifest_problems(units: Sequence[Unit], done: set[str]) -> Iterator[str]:
    planned = Counter(image.image_id for unit in units for image in unit.images)
    for image_id, times in planned.items():
        if times > 1:
            yield f"input {image_id} stands {times} times in the manifest"
    for name in sorted(done - {unit.name for unit in units}):
        yield f"unit {name} is in the ledger but not in the manifest"
    pending = [unit for unit in units if unit.name not in done]
    if pending:
        images = sum(len(unit.images) for unit in pending)
        yield (f"{images} inputs in {len(pending)} units are not done; run the same command again")


def _stray_problems(
    storage: Storage, settings: ResolvedSettings, units: Sequence[Unit]
) -> Iterator[str]:
    for dataset in DATASETS:
        # Files of a unit without an entry are overwritten when it is run again.
        expected = {file_name(dataset, unit.name, settings.fingerprint) for unit in units}
        for name in storage.sizes(dataset):
            if name not in expected:
                yield f"{storage.shown(name)} belongs to no unit of this output"


def _unit_problems(
    storage: Storage, settings: ResolvedSettings, unit: Unit, record: UnitRecord
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
        for problem in _row_problems(settings, unit, record, tables):
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
    settings: ResolvedSettings, unit: Unit, record: UnitRecord, tables: Tables
) -> Iterator[str]:
    planned = {image.image_id for image in unit.images}
    faces = _keys(tables.get(LATENTS))
    rejected = _ids(tables.get(REJECTS))
    inverted = {image_id for image_id, _ in faces}
    yield from _repeated("(image_id, face)", faces, LATENTS)
    yield from _repeated("image_id", rejected, REJECTS)
    for image_id in sorted(inverted & set(rejected)):
        yield f"input {image_id} stands in both latents and rejects"
    for image_id in sorted(planned - inverted - set(rejected)):
        yield f"input {image_id} stands in neither latents nor rejects"
    for image_id in sorted((inverted | set(rejected)) - planned):
        yield f"input {image_id} is not one of this unit"
    counted = (record.images, record.faces, sum(record.rejects.values()))
    found = (len(planned), len(faces), len(rejected))
    if counted != found:
        yield f"the ledger counts (inputs, faces, rejects) {counted}, the files hold {found}"
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


def _ids(table: pa.Table | None) -> list[str]:
    return [] if table is None else list(table.column("image_id").to_pylist())


def _keys(table: pa.Table | None) -> list[Key]:
    if table is None:
        return []
    return list(zip(_ids(table), table.column("face").to_pylist(), strict=True))


def _step_keys(table: pa.Table | None) -> list[tuple[str, int, int]]:
    if table is None:
        return []
    steps = table.column("step").to_pylist()
    return sorted((*key, step) for key, step in zip(_keys(table), steps, strict=True))
