"""The manifest: which inputs there are, cut once into units of work that never change again.

Each planning run that finds new inputs adds one file, ``_ledger/plan-NNNNNN.parquet``; older ones
stay as they are.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources import SourceImage
from pipeline.storage import Storage
from restyle_core.errors import FatalError

FOLDER = "_ledger"
MAX_UNIT = 256
"""Most inputs in a unit: what a killed run may lose per worker."""

_MIN_UNIT = 8
_UNITS_WANTED = 32
_PREFIX = f"{FOLDER}/plan-"

SCHEMA = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("uri", pa.binary(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
    ],
    {"restyle.dataset": "manifest", "restyle.version": "1"},
)


@dataclass(frozen=True, slots=True)
class Unit:
    """Inputs that are run and committed together.

    Attributes:
        name: a running number and a digest of the members; part of the unit's file names.
        images: at most :data:`MAX_UNIT` inputs.
    """

    name: str
    images: tuple[SourceImage, ...]


def read_manifest(storage: Storage) -> list[Unit]:
    """All units that were ever planned, in order.

    Raises:
        FatalError: a plan is damaged.
    """
    names = [name for name in storage.sizes(FOLDER) if name.startswith(_PREFIX)]
    units: list[Unit] = []
    for name, data in zip(names, storage.read_many(names), strict=True):
        try:
            table = pq.read_table(io.BytesIO(data))
            if table.schema.names != SCHEMA.names:
                raise pa.ArrowInvalid(f"columns {table.schema.names}")
        except (pa.ArrowException, OSError) as error:
            raise FatalError(
                f"{storage.shown(name)} is damaged ({_first_line(error)}); restore it or choose "
                "another --out"
            ) from error
        units += _units(table)
    return units


def plan(known: Sequence[Unit], images: Sequence[SourceImage]) -> list[Unit]:
    """Cut the inputs that no unit holds yet into new units.

    Args:
        known: the manifest so far.
        images: the inputs as listed now.

    Returns:
        The new units; empty when there is nothing new.
    """
    planned = {image.image_id for unit in known for image in unit.images}
    new = [image for image in images if image.image_id not in planned]
    size = unit_size(len(new))
    return [
        _unit(len(known) + index, tuple(new[start : start + size]))
        for index, start in enumerate(range(0, len(new), size))
    ]


def unit_size(count: int) -> int:
    """Inputs per unit: small jobs get small units, so that they overlap and show progress."""
    return min(MAX_UNIT, max(_MIN_UNIT, math.ceil(count / _UNITS_WANTED)))


def write_plan(storage: Storage, units: Sequence[Unit]) -> str:
    """Add new units to the manifest, in one file that is there whole or not at all: its name."""
    taken = [name for name in storage.sizes(FOLDER) if name.startswith(_PREFIX)]
    number = 1 + max((int(name[len(_PREFIX) :].partition(".")[0]) for name in taken), default=-1)
    rows = [(unit.name, image) for unit in units for image in unit.images]
    table = pa.table(
        [
            [name for name, _ in rows],
            [image.image_id for _, image in rows],
            [image.source for _, image in rows],
            [image.uri for _, image in rows],
            [image.size for _, image in rows],
            [image.version for _, image in rows],
        ],
        schema=SCHEMA,
    )
    target = pa.BufferOutputStream()
    pq.write_table(table, target, compression="zstd")
    name = f"{_PREFIX}{number:06d}.parquet"
    storage.write(name, target.getvalue().to_pybytes())
    return name


def count_changed(known: Sequence[Unit], images: Sequence[SourceImage]) -> int:
    """How many inputs are no longer the file that was planned (size, etag or time differ)."""
    now = {image.image_id: (image.size, image.version) for image in images}
    return sum(
        now.get(image.image_id, (image.size, image.version)) != (image.size, image.version)
        for unit in known
        for image in unit.images
    )


def _unit(number: int, images: tuple[SourceImage, ...]) -> Unit:
    digest = hashlib.blake2b(digest_size=4)
    for image in images:
        digest.update(image.image_id.encode())
    return Unit(f"{number:06d}-{digest.hexdigest()}", images)


def _units(table: pa.Table) -> list[Unit]:
    members: dict[str, list[SourceImage]] = {}
    names, *columns = (table.column(name).to_pylist() for name in SCHEMA.names)
    for name, *fields in zip(names, *columns, strict=True):
        members.setdefault(name, []).append(SourceImage(*fields))
    return [Unit(name, tuple(images)) for name, images in members.items()]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
