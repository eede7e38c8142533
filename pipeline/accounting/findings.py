"""What a proof comes to, and what the proofs of all kinds of outputs have in common."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from restyle.core.errors import FatalError, RestyleError
from restyle.pipeline.ledger.entries import WrittenFile
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.ledger.part_names import dataset_of
from restyle.pipeline.storage.filesystem import Storage


@dataclass(frozen=True)
class Verification:
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


def unit_list_problems(units: Sequence[UnitRef], done: set[str]) -> Iterator[str]:
    """Units that stand twice in the manifest, not at all, or are not done."""
    for name, times in Counter(unit.name for unit in units).items():
        if times > 1:
            yield f"unit {name} stands {times} times in the manifest"
    for name in sorted(done - {unit.name for unit in units}):
        yield f"unit {name} is in the ledger but not in the manifest"
    pending = [unit for unit in units if unit.name not in done]
    if pending:
        images = sum(unit.images for unit in pending)
        yield (f"{images} inputs in {len(pending)} units are not done; run the same command again")


def check_units(output: Output) -> None:
    """See that what is done was planned, and once: with a plan lost, all would be done again.

    Raises:
        FatalError: it was not.
    """
    # The entries before the manifest, which only grows while a run is at work.
    done = output.entries.units
    names = [unit.name for unit in output.manifest.units]
    unplanned = sorted(done - set(names))
    if unplanned or len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0] if names else ""
        what = f"unit {unplanned[0]} is done, but in no plan" if unplanned else f"{twice} is twice"
        uri = output.storage.uri
        raise FatalError(
            f"the manifest of {uri} is not the one that its rows were made by ({what}); "
            f"restore its plans, or see `restyle repair {uri}`"
        )


def lost_files(output: Output) -> str:
    """What the ledger names and is not there, by names and sizes from one listing of each dataset.

    Returns:
        One line that says what to do; empty when all is there.
    """
    storage, named = output.storage, [file for files in output.sets() for file in files.files]
    there: dict[str, int] = {}
    for dataset in sorted({dataset_of(file.name) for file in named}):
        there |= output.files(dataset)
    lost = [file.name for file in named if there.get(file.name) != file.size]
    if not lost:
        return ""
    what = "is missing" if lost[0] not in there else "has another size than was written"
    others = f", and so it is with {len(lost) - 1} more" if len(lost) > 1 else ""
    return (
        f"{storage.shown(lost[0])} {what}{others}; `restyle repair {storage.uri}` says what would "
        "be run again, and with --yes makes the output ready for that"
    )


def stray_problems(storage: Storage, datasets: Iterable[str], named: set[str]) -> Iterator[str]:
    """Files of the datasets that are not among the named ones."""
    for dataset in datasets:
        for name in storage.sizes(dataset):
            if name not in named:
                yield f"{storage.shown(name)} belongs to no unit of this output"


def read_keys(
    storage: Storage,
    file: WrittenFile,
    expected: Callable[[pa.Schema], pa.Schema],
    wanted: Sequence[str],
) -> pa.Table | str:
    """Read every row of a file.

    Args:
        storage: the output.
        file: as it was committed.
        expected: what the file's schema should be, given what it is.
        wanted: the columns to return, where there are such.

    Returns:
        Some columns of the file; or what is wrong with it.
    """
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
        parquet = parquet_of(data)
        found = parquet.schema_arrow
        if not found.equals(expected(found), check_metadata=False):
            return f"{where} has other columns than this version writes"
        names = [name for name in wanted if name in found.names]
        keys = found.empty_table().select(names)
        for index in range(parquet.num_row_groups):
            rows = parquet.read_row_group(index, use_threads=False)
            if "latent" in found.names and not _is_finite(rows):
                return f"{where} holds latents that are not finite"
            keys = pa.concat_tables([keys, rows.select(names)])
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"{where} cannot be read: {' '.join(str(error).split())}"
    if keys.num_rows != file.rows:
        return f"{where} has {keys.num_rows} rows instead of {file.rows}"
    return keys


def _is_finite(rows: pa.Table) -> bool:
    values = rows.column("latent").combine_chunks().flatten().to_numpy()
    return bool(np.isfinite(values).all())


def repeated(what: str, values: Iterable[object], dataset: str) -> Iterator[str]:
    """What stands in a dataset more than once."""
    for value, times in Counter(values).items():
        if times > 1:
            yield f"{what} {value} stands {times} times in {dataset}"


def columns(table: pa.Table, *names: str) -> Iterator[Any]:
    """The rows of some columns."""
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
