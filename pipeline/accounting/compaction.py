"""Compaction: merge the small files of many units into a pack, one file per dataset.

A compaction first writes a marker that names the new files, then the files, then the pack's entry,
which commits the pack. Last, it removes the merged units and packs, files before the entries that
name them. If it is killed at any moment, :func:`settle` determines from the files alone what to
remove. The ledger counts every row exactly once throughout.
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
from restyle.core.shown_text import plural
from restyle.pipeline.accounting.marker import MARKER, marked
from restyle.pipeline.accounting.operation import Operation
from restyle.pipeline.accounting.status import bound_of
from restyle.pipeline.forgetting.tombstone import check_complete
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
"""Default maximum size of a pack's largest file, in bytes."""

# Readers (verify, the report, training loops) hold a whole row group, so its rows are limited.
_PICTURE_ROWS = 64
_MOST_ROWS = 16384
_BATCH_ROWS = 64


@dataclass(frozen=True)
class Compacted:
    """Result of :func:`compact`.

    Attributes:
        packs: Number of packs written.
        units: Number of units in these packs.
        files: Number of dataset files merged.
        written: Number of dataset files written in their place.
        left: Number of dataset files in the output after the compaction.
    """

    packs: int
    units: int
    files: int
    written: int
    left: int


def compact(out: str, target: int = TARGET, listener: Listener | None = None) -> Compacted:
    """Merge small files of an output; safe to kill at any moment and to call again.

    Packs larger than half the target are not merged again. Peak memory is about three times the
    target.

    Args:
        out: the output, a path or any fsspec URI.
        target: maximum size of a pack's largest file, in bytes.
        listener: receives a note per pack.

    Raises:
        SpecError: there is no output at ``out``, or another run is using it.
        FatalError: a file is missing or damaged, or the disk is full; no rows are lost.
    """
    output, listener = Output.at(out), listener or Listener()
    storage = output.storage
    operation, settings = bound_of(storage)
    with driver_lock(storage, listener) as lock:
        check_complete(storage, output.names)
        tidy(output, operation, settings)
        sets = output.sets()
        # Withdrawal of a unit with rejects removes a whole entry, so that unit stays out of packs.
        is_revised = operation.is_revised
        kept = [each for each in sets if is_revised or not any(u.rejects for u in each.units)]
        groups = list(choose(kept, target))
        written = 0
        for number, group in enumerate(groups, start=1):
            pack = _merge(storage, operation.datasets_of(settings), group, lock)
            written += len(pack.files)
            listener.noted(
                f"pack {number} of {len(groups)}: {plural(len(pack.units), 'unit')}, "
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
    """Group entries to merge: in the order of their units, up to the target, at least two each."""
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
    """Complete or undo a killed compaction. The caller must hold the driver's lock.

    Args:
        output: the output; its ledger snapshot is refreshed if a file was removed.
        operation: the operation of the output.
        settings: the output's settings.

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
        for name in marked(storage, operation.datasets_of(settings)):
            if name not in named:
                storage.delete(name)
        storage.delete(MARKER)
    elif not doomed:
        return False
    output.look()
    return True


def tidy(output: Output, operation: Operation[Any], settings: Settings) -> bool:
    """Clean up after killed compactions and retries. The caller must hold the driver's lock.

    Lists every dataset, and reads the ledger entries that are not in the snapshot yet.

    Args:
        output: the output.
        operation: the operation of the output.
        settings: the output's settings.

    Returns:
        Whether anything was changed.

    Raises:
        FatalError: the ledger, or a pack that replaces other files, is damaged.
    """
    settled = settle(output, operation, settings)
    dropped = operation.is_revised and drop_outdated_rejects(output)
    unnamed = remove_unnamed(output, operation.datasets_of(settings))
    return settled or dropped or unnamed


def _merge(
    storage: Storage, datasets: Sequence[str], group: Sequence[FileSet], lock: DriverLock
) -> FileSet:
    """Merge a group into one pack, and remove the merged entries and files."""
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
    # A driver that took over the lock has removed the marked files and may have merged the units.
    lock.confirm()
    ledger.replace(storage, pack)
    _remove(storage, group, set(targets.values()))
    storage.delete(MARKER)
    return pack


def _remove(storage: Storage, sets: Sequence[FileSet], named: set[str]) -> None:
    """Remove the files of entries, then the entries."""
    for each in sets:
        for file in each.files:
            if file.name not in named:
                storage.delete(file.name)
        ledger.remove(storage, each)


def _merged(storage: Storage, dataset: str, group: Sequence[FileSet]) -> tuple[bytes, int]:
    """Merge the rows of a group in one dataset; return the Parquet bytes and the row count."""
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
        # The metadata, such as a metric's definition, may differ between versions of restyle.
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
    """Whether rows of both schemas can be written to one file."""
    return one.equals(other, check_metadata=False) and latent_shape(one) == latent_shape(other)


def _batches(storage: Storage, dataset: str, group: Sequence[FileSet]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a group in one dataset in batches, after checking each file's checksum."""
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
