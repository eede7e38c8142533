"""The manifest: all planned inputs, divided into units of work that never change.

Each planning run that finds new inputs adds plan files ``_ledger/plan-NNNNNN.parquet``; existing
ones stay unchanged. A plan file has one row group per unit, so that a worker reads only the unit
that it runs, and the driver reads only the metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import DamagedError, FatalError, first_line_of
from restyle.core.files import parse_json
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.filesystem import Storage

FOLDER = "_ledger"
MAX_UNIT = 256
"""Maximum number of inputs in a unit, which bounds the work lost per killed worker."""

PART_UNITS = 64
"""Maximum number of units in a plan file, unless a single container has more."""

_PREFIX = f"{FOLDER}/plan-"
_SUFFIX = ".parquet"
_UNITS = b"restyle.units"
_ORIGIN = b"restyle.origin"
_SHORTENED = b"restyle.shortened"

# Number of plan files in memory while all are read; each takes about a megabyte.
_READ_AT_ONCE = 16
_KEPT = 4

SCHEMA = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("revision", pa.int16(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("uri", pa.binary(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("place", pa.string(), nullable=False),
        pa.field("fault", pa.string(), nullable=False),
    ],
    {"restyle.dataset": "manifest", "restyle.version": "2"},
)
_WITH_LANDMARKS = SCHEMA.append(pa.field("landmarks", pa.binary(), nullable=False))
"""Schema of plans with an input whose landmarks are given."""


@dataclass(frozen=True, slots=True)
class UnitRef:
    """Reference to a unit without its inputs, so that the driver's memory stays small.

    Attributes:
        name: Running number and a digest of the inputs; part of the unit's file names.
        images: Number of inputs.
        plan: Path of the plan file with the unit, relative to the output.
        group: Index of the unit's row group in that file.
    """

    name: str
    images: int
    plan: str
    group: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Inputs that are processed and committed together.

    Attributes:
        name: Name of the unit, as in :class:`UnitRef`.
        images: At most :data:`MAX_UNIT` inputs, all from one container or all from none.
        is_whole: Whether it has all inputs that it is named after; some may have been forgotten.
    """

    name: str
    images: tuple[SourceImage, ...]
    is_whole: bool = True


@dataclass(frozen=True)
class Origin:
    """Origin of the inputs of a plan file.

    Attributes:
        input: Absolute ``INPUT`` without credentials; empty for inputs that are retried.
        column: Requested column of ``INPUT``; empty if none was requested.
        cut: Container (hex of its URI) of which ``--limit`` excluded a part; empty if none.
    """

    input: str = ""
    column: str = ""
    cut: str = ""


@dataclass(frozen=True)
class PlanFile:
    """A plan file, open for reading.

    Attributes:
        name: Path relative to the output.
        origin: Origin of its inputs.
        units: Units in the order of the row groups.
        parquet: The open Parquet file, with one row per input.
        shortened: Names of units of which inputs were forgotten.
    """

    name: str
    origin: Origin
    units: tuple[UnitRef, ...]
    parquet: pq.ParquetFile
    shortened: frozenset[str] = frozenset()


class PlanReader:
    """Reads single units and caches the last few plan files; thread-safe.

    Args:
        storage: the output.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._files: OrderedDict[str, PlanFile] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, ref: UnitRef) -> Unit:
        """Read a unit with its inputs.

        Raises:
            FatalError: the plan file is damaged or does not contain this unit.
            TransientError: the store failed; a retry may succeed.
        """
        with self._lock:
            file = self._files.pop(ref.plan, None)
            if file is None:
                file = open_plan(self._storage, ref.plan)
                if len(self._files) >= _KEPT:
                    self._files.popitem(last=False)
            self._files[ref.plan] = file
            if ref not in file.units:
                raise FatalError(
                    f"{self._storage.shown(ref.plan)} does not hold unit {ref.name}; "
                    "run the same command again"
                )
            images = images_of(self._storage, file, ref.group)
            return Unit(ref.name, images, ref.name not in file.shortened)


def read_unit(storage: Storage, ref: UnitRef) -> Unit:
    """Read one unit with its inputs; use a :class:`PlanReader` for several units."""
    return PlanReader(storage).read(ref)


def read_units(storage: Storage) -> list[UnitRef]:
    """Return all planned units in order.

    Raises:
        FatalError: a plan is damaged.
    """
    return [unit for file in read_plans(storage) for unit in file.units]


def read_plans(storage: Storage, names: Sequence[str] | None = None) -> Iterator[PlanFile]:
    """Yield the plan files in order, with a few in memory at a time.

    Args:
        storage: the output.
        names: paths of the plan files; None to list them.

    Raises:
        FatalError: a plan is damaged.
    """
    names = plan_names(storage) if names is None else names
    for start in range(0, len(names), _READ_AT_ONCE):
        some = list(names[start : start + _READ_AT_ONCE])
        for name, data in zip(some, storage.read_many(some), strict=True):
            yield _opened(storage, name, data)


def plan_names(storage: Storage) -> list[str]:
    """Return the paths of the plan files, relative to the output, in planning order."""
    return plans_among(storage.sizes(FOLDER))


def plans_among(names: Iterable[str]) -> list[str]:
    """Select the plan files among names of ledger files, in planning order."""
    return sorted(filter(_is_plan, names), key=_number)


def images_of(storage: Storage, file: PlanFile, group: int) -> tuple[SourceImage, ...]:
    """Read the inputs of one unit of a plan file.

    Args:
        storage: the output, for error messages.
        file: the plan file.
        group: index of the unit's row group.

    Raises:
        FatalError: the file is damaged.
    """
    try:
        names = file.parquet.schema_arrow.names[1:]
        table = file.parquet.read_row_group(group, columns=names, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise damaged(storage, file.name, error) from error
    columns = [table.column(name).to_pylist() for name in names]
    return tuple(
        SourceImage(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)
    )


def new_unit(number: int, images: Sequence[SourceImage]) -> Unit:
    """Create a unit whose name has its running number and a digest of its inputs."""
    return Unit(f"{number:06d}-{members_digest(images, 4)}", tuple(images))


def members_digest(images: Sequence[SourceImage], size: int) -> str:
    """Return the digest that ends a unit's name: hex over ``size`` bytes."""
    digest = hashlib.blake2b(digest_size=size)
    for image in images:
        digest.update(f"{image.image_id}/{image.revision};".encode())
    return digest.hexdigest()


def named_after(unit: Unit) -> bool:
    """Whether a unit's inputs match the digest in its name, as far as it has them all."""
    if not unit.is_whole:
        return True
    digest = unit.name.rpartition("-")[2]
    return digest in (members_digest(unit.images, size) for size in (4, 8))


def next_number(units: Sequence[UnitRef]) -> int:
    """Return the next running number, above all existing ones, which may have gaps."""
    return 1 + max((unit_number(unit.name) for unit in units), default=-1)


def unit_number(name: str) -> int:
    """Return the running number in a unit's name."""
    return int(name.partition("-")[0])


def write_plan(
    storage: Storage, units: Sequence[Unit], origin: Origin, plans: Sequence[str] | None = None
) -> list[UnitRef]:
    """Add units to the manifest by writing one plan file atomically.

    Args:
        storage: the output.
        units: the new units; at least one.
        origin: the origin of their inputs.
        plans: paths of the existing plan files in order; None to list them.

    Returns:
        References to the written units.
    """
    name = plan_name(plan_names(storage) if plans is None else plans)
    replace_plan(storage, name, units, origin)
    return [UnitRef(unit.name, len(unit.images), name, i) for i, unit in enumerate(units)]


def replace_plan(storage: Storage, name: str, units: Sequence[Unit], origin: Origin) -> None:
    """Write a plan file under a given path, in place of an earlier one.

    Args:
        storage: the output.
        name: path of the plan file.
        units: its units; at least one.
        origin: the origin of their inputs.
    """
    described = {
        _UNITS: json.dumps([[unit.name, len(unit.images)] for unit in units]),
        _ORIGIN: json.dumps(asdict(origin)),
    }
    shortened = [unit.name for unit in units if not unit.is_whole]
    if shortened:
        described[_SHORTENED] = json.dumps(shortened)
    is_given = any(image.landmarks for unit in units for image in unit.images)
    schema = _WITH_LANDMARKS if is_given else SCHEMA
    schema = schema.with_metadata({**(SCHEMA.metadata or {}), **described})
    target = pa.BufferOutputStream()
    with pq.ParquetWriter(
        target,
        schema,
        compression="zstd",
        # For columns of distinct values, a dictionary would be built and then discarded.
        use_dictionary=["unit", "version", "fault"],
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for unit in units:
            writer.write_table(_table(unit, schema), row_group_size=len(unit.images))
    storage.write(name, target.getvalue().to_pybytes())


def _table(unit: Unit, schema: pa.Schema) -> pa.Table:
    names = schema.names[1:]
    columns = [[getattr(image, name) for image in unit.images] for name in names]
    return pa.table([[unit.name] * len(unit.images), *columns], schema=schema)


def open_plan(storage: Storage, name: str) -> PlanFile:
    """Open one plan file by its path, relative to the output.

    Raises:
        FatalError: the file is damaged or missing.
    """
    return _opened(storage, name, _data_of(storage, name))


def plan_name(taken: Sequence[str]) -> str:
    """Return the path of the next plan file, given the existing paths in order."""
    return f"{_PREFIX}{1 + _number(taken[-1]) if taken else 0:06d}{_SUFFIX}"


def _opened(storage: Storage, name: str, data: bytes) -> PlanFile:
    try:
        parquet = parquet_of(data, page_checksums=True)
        if not any(map(parquet.schema_arrow.equals, (SCHEMA, _WITH_LANDMARKS))):
            raise ValueError("its columns are those of another version of restyle")
        metadata = parquet.schema_arrow.metadata
        units = tuple(
            UnitRef(unit, images, name, group)
            for group, (unit, images) in enumerate(parse_json(metadata[_UNITS]))
        )
        if not units or not all(re.fullmatch(r"[0-9]{1,18}-[\w-]+", unit.name) for unit in units):
            raise ValueError("it holds invalid unit names")
        rows = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        if rows != [unit.images for unit in units]:
            raise ValueError("its units are not what it says")
        shortened = frozenset(parse_json(metadata.get(_SHORTENED, b"[]")))
        origin = Origin(**parse_json(metadata[_ORIGIN]))
        return PlanFile(name, origin, units, parquet, shortened)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(storage, name, error) from error


def _data_of(storage: Storage, name: str) -> bytes:
    try:
        return storage.read(name)
    except FileNotFoundError as error:
        raise FatalError(f"{storage.shown(name)} is gone; restore it") from error


def _is_plan(name: str) -> bool:
    return bool(re.fullmatch(rf"{_PREFIX}[0-9]+\{_SUFFIX}", name))


def _number(name: str) -> int:
    return int(name.removeprefix(_PREFIX).removesuffix(_SUFFIX))


def damaged(storage: Storage, name: str, error: Exception) -> DamagedError:
    """Create the exception for a plan file that cannot be read."""
    reason = first_line_of(error)
    return DamagedError(
        f"{storage.shown(name)} is damaged ({reason}); restore it, or "
        f"see `restyle repair {storage.uri}`"
    )
