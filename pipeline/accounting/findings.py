"""The result of a verification, and the checks that all operations share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from restyle.core.errors import FatalError, RestyleError, reason_of
from restyle.core.shown_text import are, plural
from restyle.pipeline.ledger.entries import WrittenFile
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.ledger.part_names import dataset_of
from restyle.pipeline.storage.filesystem import Storage


@dataclass(frozen=True)
class Verification:
    """Result of :func:`restyle.pipeline.accounting.verify.verify`.

    Attributes:
        problems: Problems found, one line each; empty if the output is sound.
        units: Number of units read.
        images: Number of inputs in these units, without rejects that were retried since.
        faces: Number of rows in the first dataset, ``latents`` for an inversion.
        rejects: Number of rows in ``rejects``.
        size: Number of bytes read.
    """

    problems: list[str]
    units: int
    images: int
    faces: int
    rejects: int
    size: int


def unit_list_problems(units: Sequence[UnitRef], done: set[str]) -> Iterator[str]:
    """Yield a line for each unit that is planned twice or not at all, and one for pending units."""
    for name, times in Counter(unit.name for unit in units).items():
        if times > 1:
            yield f"unit {name} is {times} times in the manifest"
    for name in sorted(done - {unit.name for unit in units}):
        yield f"unit {name} is in the ledger but not in the manifest"
    pending = [unit for unit in units if unit.name not in done]
    if pending:
        images = sum(unit.images for unit in pending)
        yield (
            f"{plural(images, 'input')} in {plural(len(pending), 'unit')} {are(images)} not done; "
            "run the same command again"
        )


def check_units(output: Output) -> None:
    """Check that every committed unit is planned exactly once.

    Without this check, a run on an output that lost a plan would invert its inputs again.

    Raises:
        FatalError: a committed unit is in no plan, or a unit is planned twice.
    """
    # Read before the manifest: a concurrent run only adds to it, so every entry finds its plan.
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
    """Find committed files that are missing or have a wrong size.

    Lists each dataset once and reads no file.

    Returns:
        One line that names the first such file and the remedy; empty if there is none.
    """
    storage, named = output.storage, [file for files in output.sets() for file in files.files]
    there: dict[str, int] = {}
    for dataset in sorted({dataset_of(file.name) for file in named}):
        there |= output.files(dataset)
    lost = [file.name for file in named if there.get(file.name) != file.size]
    if not lost:
        return ""
    what = "is missing" if lost[0] not in there else "has another size than was written"
    others = f" (and {plural(len(lost) - 1, 'more file')})" if len(lost) > 1 else ""
    return (
        f"{storage.shown(lost[0])} {what}{others}; `restyle repair {storage.uri}` says what would "
        "be run again, and with --yes makes the output ready for that"
    )


def stray_problems(storage: Storage, datasets: Iterable[str], named: set[str]) -> Iterator[str]:
    """Yield a line for each file in the datasets whose name is not in ``named``."""
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
    """Read and check every row of a file.

    Args:
        storage: the output.
        file: the file as its ledger entry describes it.
        expected: maps the file's schema to the schema that it should have.
        wanted: names of the columns to return, if the file has them.

    Returns:
        The wanted columns of the file, or one line that describes its problem.
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
        return f"{where} cannot be read: {reason_of(error)}"
    if keys.num_rows != file.rows:
        return f"{where} has {plural(keys.num_rows, 'row')} instead of {file.rows}"
    return keys


def _is_finite(rows: pa.Table) -> bool:
    values = rows.column("latent").combine_chunks().flatten().to_numpy()
    return bool(np.isfinite(values).all())


def repeated(what: str, values: Iterable[object], dataset: str) -> Iterator[str]:
    """Yield a line for each value that occurs more than once in a dataset."""
    for value, times in Counter(values).items():
        if times > 1:
            yield f"{what} {value} is {times} times in {dataset}"


def columns(table: pa.Table, *names: str) -> Iterator[Any]:
    """Iterate over the rows of the named columns, as tuples."""
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
