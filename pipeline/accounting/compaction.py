"""Compaction: the small files of many units become one file in each dataset, a pack.

The merged files are written first, then the pack's entry, which is the commit; then what was merged
is removed, files before the entries that name them. A marker in the ledger names the files that are
about to be written. So whatever moment a compaction is killed at, :func:`settle` knows from the
files alone what to remove, and the ledger counts every row once all the time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import FatalError
from restyle.pipeline.accounting.marker import MARKER, marked
from restyle.pipeline.accounting.operation import Operation
from restyle.pipeline.accounting.status import bound_of
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import GROUP_BYTES, latent_shape, parquet_options
from restyle.pipeline.ledger.entries import FileSet, WrittenFile
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import file_of, parquet_of
from restyle.pipeline.ledger.part_names import file_name
from restyle.pipeline.ledger.revisions import drop_outdated_rejects, remove_unnamed
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import Storage
from restyle.pipeline.storage.lock import DriverLock, driver_lock

TARGET = 128 * 2**20
"""Bytes that the largest file of a pack comes to, about."""

# Rows are read again a row group at a time: by verify, by the report, by training loops.
_PICTURE_ROWS = 64
_MOST_ROWS = 16384
_BATCH_ROWS = 64


@dataclass(frozen=True)
class Compacted:
    """What :func:`compact` did.

    Attributes:
        packs: that were written.
        units: in these packs.
        files: of datasets that were merged.
        written: files that they became.
        left: files of datasets in the output now.
    """

    packs: int
    units: int
    files: int
    written: int
    left: int


def compact(out: str, target: int = TARGET, listener: Listener | None = None) -> Compacted:
    """Merge small files of an output; may be killed at any moment and called again.

    Packs that have come to half the target are left alone from then on. Memory: about three times
    the target.

    Args:
        out: a path or any fsspec URI.
        target: bytes that the largest file of a pack may have.
        listener: is told of every pack.

    Raises:
        SpecError: there is no output at this place, or a run is at work on it.
        FatalError: a file is missing or damaged, or there is no space; nothing is lost.
    """
    output, listener = Output.at(out), listener or Listener()
    storage = output.storage
    operation, settings = bound_of(storage)
    with driver_lock(storage, listener) as lock:
        tidy(output, operation, settings)
        sets = output.sets()
        # Units that can be withdrawn as a whole alone stay by themselves.
        is_revised = operation.is_revised
        kept = [each for each in sets if is_revised or not any(u.rejects for u in each.units)]
        groups = list(choose(kept, target))
        written = 0
        for number, group in enumerate(groups, start=1):
            pack = _merge(storage, operation.datasets, group, lock)
            written += len(pack.files)
            listener.noted(
                f"pack {number} of {len(groups)}: {len(pack.units)} units, "
                f"{sum(file.size for file in pack.files) / 2**20:.1f} MiB"
            )
        merged = [each for group in groups for each in group]
        files = sum(len(each.files) for each in merged)
        return Compacted(
            packs=len(groups),
            units=sum(len(each.units) for each in merged),
            files=files,
            written=written,
            left=sum(len(each.files) for each in sets) - files + written,
        )


def choose(sets: Sequence[FileSet], target: int) -> Iterator[list[FileSet]]:
    """What is merged with what: in the order of the units, as much as fits, two at least."""
    group: list[FileSet] = []
    size = 0
    for each in sorted(sets, key=lambda each: each.units[0].unit):
        more = _size(each)
        if 2 * more > target:
            continue
        if group and size + more > target:
            if len(group) > 1:
                yield group
            group, size = [], 0
        group.append(each)
        size += more
    if len(group) > 1:
        yield group


def settle(output: Output, operation: Operation[Any], settings: Settings) -> bool:
    """Finish or take back what a killed compaction began. The driver's lock must be held.

    Args:
        output: where; its ledger is looked at again where there was something to do.
        operation: that the output is of.
        settings: of the output.

    Returns:
        Whether anything was removed.

    Raises:
        FatalError: the ledger is damaged.
    """
    storage, entries = output.storage, output.entries
    if entries.replaced or entries.outdated:
        proof = operation.proof(storage, settings, entries.units)
        for pack in entries.packs:
            proof.require(FileSet.of_pack(pack))
    doomed = [FileSet.of_pack(pack) for pack in entries.replaced]
    doomed += ledger.read_single(storage, sorted(entries.outdated))
    named = {file.name for pack in entries.packs for file in pack.files}
    _remove(storage, doomed, named)
    if MARKER in output.names:
        for name in marked(storage, operation.datasets):
            if name not in named:
                storage.delete(name)
        storage.delete(MARKER)
    elif not doomed:
        return False
    output.look()
    return True


def tidy(output: Output, operation: Operation[Any], settings: Settings) -> bool:
    """Finish what earlier runs left half-done. The driver's lock must be held.

    Lists every dataset, and reads those entries of the ledger that were not read yet.

    Args:
        output: where.
        operation: that the output is of.
        settings: of the output.

    Returns:
        Whether anything was done.

    Raises:
        FatalError: the ledger is damaged, or what is to replace something is.
    """
    settled = settle(output, operation, settings)
    dropped = operation.is_revised and drop_outdated_rejects(output)
    unnamed = remove_unnamed(output, operation.datasets)
    return settled or dropped or unnamed


def _merge(
    storage: Storage, datasets: Sequence[str], group: Sequence[FileSet], lock: DriverLock
) -> FileSet:
    """Make one pack of a group, and remove what it was made of."""
    units = sorted((unit for each in group for unit in each.units), key=lambda unit: unit.unit)
    fingerprint = units[0].fingerprint
    if any(unit.fingerprint != fingerprint for unit in units):
        raise FatalError(
            f"units of {storage.uri} were run with different settings; see `restyle verify`"
        )
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted((file for each in group for file in each.files), key=lambda f: f.name):
        digest.update(f"{file.name}/{file.sha256};".encode())
    name = digest.hexdigest()
    targets = {
        dataset: file_name(dataset, f"pack-{name}", fingerprint)
        for dataset in datasets
        if any(file_of(each, dataset) for each in group)
    }
    lock.check()
    storage.write(MARKER, json.dumps(sorted(targets.values())).encode())
    files = []
    for dataset, target in targets.items():
        data, rows = _merged(storage, dataset, group)
        lock.check()
        storage.write(target, data)
        sha256 = hashlib.sha256(data).hexdigest()
        files.append(WrittenFile(name=target, rows=rows, size=len(data), sha256=sha256))
    pack = FileSet(
        pack=name,
        generation=1 + max(each.generation for each in group),
        units=tuple(unit.model_copy(update={"files": ()}) for unit in units),
        files=tuple(files),
    )
    # Whoever took over meanwhile has removed the marked files, and may have merged the same units.
    lock.confirm()
    ledger.replace(storage, pack)
    _remove(storage, group, set(targets.values()))
    storage.delete(MARKER)
    return pack


def _remove(storage: Storage, sets: Sequence[FileSet], named: set[str]) -> None:
    """Remove files, and only then the entries that name them."""
    for each in sets:
        for file in each.files:
            if file.name not in named:
                storage.delete(file.name)
        ledger.remove(storage, each)


def _merged(storage: Storage, dataset: str, group: Sequence[FileSet]) -> tuple[bytes, int]:
    """The rows of a group in one dataset, as a Parquet file; and how many there are."""
    target = pa.BufferOutputStream()
    writer: pq.ParquetWriter | None = None
    waiting: list[pa.RecordBatch] = []
    rows = total = 0

    def flush() -> None:
        if waiting and writer is not None:
            table = pa.Table.from_batches(waiting)
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
            waiting.clear()

    for batch in _batches(storage, dataset, group):
        if writer is None:
            writer = pq.ParquetWriter(target, batch.schema, **parquet_options(batch.schema))
        elif not _are_alike(batch.schema, writer.schema):
            raise FatalError(f"files in {storage.shown(dataset)} have different columns")
        # What is said beside the columns, such as a metric's definition, may be another version's.
        waiting.append(pa.RecordBatch.from_arrays(batch.columns, schema=writer.schema))
        rows = sum(each.num_rows for each in waiting)
        size = sum(each.nbytes for each in waiting)
        total += batch.num_rows
        if size >= GROUP_BYTES or rows >= (
            _PICTURE_ROWS if "image" in batch.schema.names else _MOST_ROWS
        ):
            flush()
    flush()
    if writer is not None:
        writer.close()
    data: bytes = target.getvalue().to_pybytes()
    return data, total


def _are_alike(one: pa.Schema, other: pa.Schema) -> bool:
    """Whether rows of two files can stand in one."""
    return one.equals(other, check_metadata=False) and latent_shape(one) == latent_shape(other)


def _batches(storage: Storage, dataset: str, group: Sequence[FileSet]) -> Iterator[pa.RecordBatch]:
    """A few rows at a time, from files that are what was committed."""
    for each in group:
        for file in each.files:
            if not file.name.startswith(f"{dataset}/"):
                continue
            where = storage.shown(file.name)
            try:
                data = storage.read(file.name)
                if hashlib.sha256(data).hexdigest() != file.sha256:
                    raise ValueError("checksum")
                yield from parquet_of(data).iter_batches(_BATCH_ROWS, use_threads=False)
            except (OSError, ValueError, pa.ArrowException) as error:
                raise FatalError(f"{where} is missing or damaged; {DAMAGE}") from error


def _size(files: FileSet) -> int:
    return max((file.size for file in files.files), default=0)
