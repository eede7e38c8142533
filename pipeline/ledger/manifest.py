"""The manifest: which inputs there are, cut once into units of work that never change again.

Each planning run that finds something new adds files ``_ledger/plan-NNNNNN.parquet``; older ones
stay as they are. A file has one row group for each of its units, so that a worker reads the unit it
is to run and the driver no unit at all.
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

from restyle.core.errors import DamagedError, FatalError
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.filesystem import Storage

FOLDER = "_ledger"
MAX_UNIT = 256
"""Most inputs in a unit: what a killed run may lose per worker."""

PART_UNITS = 64
"""Units in a file of the manifest; more only where one container alone has more."""

_PREFIX = f"{FOLDER}/plan-"
_SUFFIX = ".parquet"
_UNITS = b"restyle.units"
_ORIGIN = b"restyle.origin"

# Files in memory at a time where all are read: a megabyte each.
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
_FIELDS = SCHEMA.names[1:]


@dataclass(frozen=True, slots=True)
class UnitRef:
    """A unit by name, without its inputs: what the driver holds of it, whatever the job's size.

    Attributes:
        name: a running number and a digest of the members; part of the unit's file names.
        images: number of inputs.
        plan: the manifest's file that holds it, relative to the output.
        group: which of that file's row groups it is.
    """

    name: str
    images: int
    plan: str
    group: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Inputs that are run and committed together.

    Attributes:
        name: as in :class:`UnitRef`.
        images: at most :data:`MAX_UNIT` inputs, all of one container or of none.
    """

    name: str
    images: tuple[SourceImage, ...]


@dataclass(frozen=True)
class Origin:
    """How the inputs of one file of the manifest came into it.

    Attributes:
        input: ``INPUT`` in full, fit to be shown; empty for inputs that are tried again.
        column: that was asked for; empty where none was.
        cut: the container (hex of its URI) whose end ``--limit`` left out; empty when it did not.
    """

    input: str = ""
    column: str = ""
    cut: str = ""


@dataclass(frozen=True)
class PlanFile:
    """One file of the manifest, open for reading.

    Attributes:
        name: relative to the output.
        origin: of its inputs.
        units: in the order of the row groups.
        parquet: the rows.
    """

    name: str
    origin: Origin
    units: tuple[UnitRef, ...]
    parquet: pq.ParquetFile


class PlanReader:
    """Reads units one by one and keeps the last few files; safe for several threads.

    Args:
        storage: the output.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._files: OrderedDict[str, PlanFile] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, ref: UnitRef) -> Unit:
        """A unit with its inputs.

        Raises:
            FatalError: the manifest is damaged or does not hold this unit.
            TransientError: the store failed; trying again may work.
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
            return Unit(ref.name, images_of(self._storage, file, ref.group))


def read_unit(storage: Storage, ref: UnitRef) -> Unit:
    """One unit with its inputs; for several use a :class:`PlanReader`."""
    return PlanReader(storage).read(ref)


def read_units(storage: Storage) -> list[UnitRef]:
    """All units that were ever planned, in order.

    Raises:
        FatalError: a plan is damaged.
    """
    return [unit for file in read_plans(storage) for unit in file.units]


def read_plans(storage: Storage, names: Sequence[str] | None = None) -> Iterator[PlanFile]:
    """The files of the manifest in order, a few in memory at a time.

    Args:
        storage: the output.
        names: of the files, where they were listed already.

    Raises:
        FatalError: a plan is damaged.
    """
    names = plan_names(storage) if names is None else names
    for start in range(0, len(names), _READ_AT_ONCE):
        some = list(names[start : start + _READ_AT_ONCE])
        for name, data in zip(some, storage.read_many(some), strict=True):
            yield _opened(storage, name, data)


def plan_names(storage: Storage) -> list[str]:
    """The files of the manifest, in the order in which they were planned."""
    return plans_among(storage.sizes(FOLDER))


def plans_among(names: Iterable[str]) -> list[str]:
    """Those files of the ledger that are the manifest's, in order."""
    return sorted(filter(_is_plan, names), key=_number)


def images_of(storage: Storage, file: PlanFile, group: int) -> tuple[SourceImage, ...]:
    """The inputs of one unit of a file.

    Raises:
        FatalError: the file is damaged.
    """
    try:
        table = file.parquet.read_row_group(group, columns=_FIELDS, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise damaged(storage, file.name, error) from error
    columns = {name: table.column(name).to_pylist() for name in _FIELDS}
    return tuple(
        SourceImage(**dict(zip(_FIELDS, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    )


def new_unit(number: int, images: Sequence[SourceImage]) -> Unit:
    """A unit, named after its running number and its members."""
    return Unit(f"{number:06d}-{members_digest(images, 4)}", tuple(images))


def members_digest(images: Sequence[SourceImage], size: int) -> str:
    """What the name of a unit ends with: a digest of its members, of so many bytes."""
    digest = hashlib.blake2b(digest_size=size)
    for image in images:
        digest.update(f"{image.image_id}/{image.revision};".encode())
    return digest.hexdigest()


def named_after(unit: Unit) -> bool:
    """Whether a unit holds the inputs that it was made of."""
    digest = unit.name.rpartition("-")[2]
    return digest in (members_digest(unit.images, size) for size in (4, 8))


def next_number(units: Sequence[UnitRef]) -> int:
    """The running number of the next unit: above those of all units, of which some may be lost."""
    return 1 + max((unit_number(unit.name) for unit in units), default=-1)


def unit_number(name: str) -> int:
    """The running number in a unit's name."""
    return int(name.partition("-")[0])


def write_plan(
    storage: Storage, units: Sequence[Unit], origin: Origin, plans: Sequence[str] | None = None
) -> list[UnitRef]:
    """Add units to the manifest, in one file that is there whole or not at all.

    Args:
        storage: the output.
        units: new ones; at least one.
        origin: of their inputs.
        plans: the files of the manifest in order, where they were listed already.

    Returns:
        The units as they stand there.
    """
    name = plan_name(plan_names(storage) if plans is None else plans)
    described = {
        _UNITS: json.dumps([[unit.name, len(unit.images)] for unit in units]),
        _ORIGIN: json.dumps(asdict(origin)),
    }
    schema = SCHEMA.with_metadata({**(SCHEMA.metadata or {}), **described})
    target = pa.BufferOutputStream()
    with pq.ParquetWriter(
        target,
        schema,
        compression="zstd",
        # Where every value is another, a dictionary would only be made and thrown away.
        use_dictionary=["unit", "version", "fault"],
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for unit in units:
            writer.write_table(_table(unit, schema), row_group_size=len(unit.images))
    storage.write(name, target.getvalue().to_pybytes())
    return [UnitRef(unit.name, len(unit.images), name, i) for i, unit in enumerate(units)]


def _table(unit: Unit, schema: pa.Schema) -> pa.Table:
    columns = [[getattr(image, name) for image in unit.images] for name in _FIELDS]
    return pa.table([[unit.name] * len(unit.images), *columns], schema=schema)


def open_plan(storage: Storage, name: str) -> PlanFile:
    """One file of the manifest.

    Raises:
        FatalError: it is damaged or gone.
    """
    return _opened(storage, name, _data_of(storage, name))


def plan_name(taken: Sequence[str]) -> str:
    """The name of the next file of the manifest, given those of all others in order."""
    return f"{_PREFIX}{1 + _number(taken[-1]) if taken else 0:06d}{_SUFFIX}"


def _opened(storage: Storage, name: str, data: bytes) -> PlanFile:
    try:
        parquet = parquet_of(data, page_checksums=True)
        if not parquet.schema_arrow.equals(SCHEMA, check_metadata=False):
            raise ValueError("its columns are those of another version of restyle")
        metadata = parquet.schema_arrow.metadata
        units = tuple(
            UnitRef(unit, images, name, group)
            for group, (unit, images) in enumerate(json.loads(metadata[_UNITS]))
        )
        if not units or not all(re.fullmatch(r"[0-9]{1,18}-[\w-]+", unit.name) for unit in units):
            raise ValueError("it holds units that are none")
        rows = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        if rows != [unit.images for unit in units]:
            raise ValueError("its units are not what it says")
        return PlanFile(name, Origin(**json.loads(metadata[_ORIGIN])), units, parquet)
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
    """What to raise when a file of the manifest cannot be read."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DamagedError(
        f"{storage.shown(name)} is damaged ({reason}); restore it, or "
        f"see `restyle repair {storage.uri}`"
    )
