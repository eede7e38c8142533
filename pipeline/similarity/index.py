"""Making and extending the index of an output, in ``_index/``.

Codes are written in files of about :data:`SEGMENT_ROWS` rows, each followed by a new record. So
memory holds one such file, and a build that was killed goes on behind the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from restyle.core.errors import RestyleError, SpecError
from restyle.pipeline.accounting.findings import check_units
from restyle.pipeline.accounting.status import settings_of
from restyle.pipeline.forgetting.tombstone import check_complete
from restyle.pipeline.ledger.datasets import LATENTS
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener
from restyle.pipeline.results.forms.extras import require
from restyle.pipeline.results.forms.selected_rows import SelectedRows
from restyle.pipeline.results.latent_file import IntArray, open_latents
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.latents import Pick, Wanted, picks_of
from restyle.pipeline.results.snapshot import Snapshot, snapshot_of
from restyle.pipeline.similarity.quantizer import (
    FITTED,
    Quantizer,
    fit,
    fit_axes,
    sample_size,
)
from restyle.pipeline.similarity.record import (
    FOLDER,
    IndexRecord,
    SegmentRecord,
    damaged,
    newest_digest,
    read_quantizer,
    read_record,
    read_segments,
    segment_file,
    sha256,
    write_quantizer,
)
from restyle.pipeline.similarity.segment import Rows, Segment, encoded, header_size, row_type
from restyle.pipeline.storage.lock import driver_lock

SEGMENT_ROWS = 2**18
_GROWTH = 4
"""Times as many faces as the centroids were made for, from which they are made anew."""


@dataclass(frozen=True)
class Indexed:
    """Result of :func:`update_index`.

    Attributes:
        faces: number of faces in the index.
        added: number of those that an earlier index did not have.
    """

    faces: int
    added: int


def update_index(out: str, listener: Listener | None = None) -> Indexed:
    """Make the index of an output, or bring an earlier one up to date.

    Of an earlier index that has only files of the output, codes are made of the other files alone.
    Memory holds 144 bytes for each of 2**18 faces, 2**10 latents, and one row group.

    Args:
        out: the output, a path or any fsspec URI.
        listener: receives notes.

    Raises:
        SpecError: faiss is not installed, the output has no faces, or another run is using it.
        FatalError: a file is missing or damaged, or the index cannot be written.
    """
    require("faiss", "faiss", "an index")
    output = Output.at(out)
    settings = settings_of(output.storage)
    with driver_lock(output.storage, listener or Listener()) as lock:
        output.look()
        check_units(output)
        check_complete(output.storage, output.names)
        snapshot = snapshot_of(output, settings)
        if not snapshot.files(LATENTS):
            raise SpecError(f"{output.storage.uri} holds no faces to index yet")
        build = _continued(snapshot) or _begun(snapshot)
        earlier = build.faces
        for pick in build.missing():
            lock.check()
            build.add(pick)
        lock.confirm()
        build.finish()
    return Indexed(build.faces, max(build.faces - earlier, 0))


@dataclass
class _Build:
    """An index that is being made.

    Attributes:
        snapshot: the output.
        quantizer: what was trained.
        record: what is written already.
        numbers: list of each row that is not yet written.
        rows: these rows.
    """

    snapshot: Snapshot
    quantizer: Quantizer
    record: IndexRecord
    numbers: list[IntArray] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)

    @property
    def faces(self) -> int:
        """Number of faces with a code."""
        return sum(each.rows for each in self.record.segments) + self._waiting

    @property
    def _waiting(self) -> int:
        return sum(map(len, self.numbers))

    def missing(self) -> Iterator[Pick]:
        """Rows of the files that have no codes yet."""
        present = {name for name, _ in self.record.files}
        for file in self.snapshot.files(LATENTS):
            if file.name not in present:
                yield from picks_of(
                    self.snapshot, Wanted(self.snapshot.out, [], None, "current"), [file]
                )
                self.record.files.append((file.name, file.sha256))
                if self._waiting >= SEGMENT_ROWS:
                    self._flush()

    def add(self, pick: Pick) -> None:
        """Make the codes of a file's rows."""
        size = self.record.shape[0] * self.record.shape[1]
        if pick.shape != self.record.shape:
            raise damaged(self.snapshot.storage)
        with open_latents(self.snapshot.out, pick.name) as file:
            for group, start, count in file.groups():
                low, high = np.searchsorted(pick.rows, (start, start + count))
                if low == high:
                    continue
                latents = np.empty((high - low, size), np.float32)
                offsets = file.read_group(group, pick.rows[low:high] - start, latents)
                numbers, codes = self.quantizer.encode(latents)
                rows = np.empty(high - low, row_type(codes.shape[1]))
                rows["file"] = len(self.record.files)
                rows["row"], rows["offset"], rows["code"] = pick.rows[low:high], offsets, codes
                self.numbers.append(numbers)
                self.rows.append(rows)

    def keep(self, current: Sequence[IntArray] | None) -> None:
        """Take up the last file of codes if it is small, and drop rows that are not current.

        Args:
            current: rows that count of each file in the record; None if all do.
        """
        storage, segments = self.snapshot.storage, self.record.segments
        kept = []
        for about, segment in zip(
            segments, read_segments(storage, self.record, self.quantizer), strict=True
        ):
            is_open = about is segments[-1] and about.rows < SEGMENT_ROWS // 2
            if current is None and not is_open:
                kept.append(about)
                continue
            numbers, rows = _read(self.snapshot, segment)
            if current is not None:
                stands = _stand(rows, current)
                if stands.all() and not is_open:
                    kept.append(about)
                    continue
                numbers, rows = numbers[stands], rows[stands]
            self.numbers.append(numbers)
            self.rows.append(rows)
        segments[:] = kept

    def finish(self) -> None:
        """Write what is left, and remove what the record does not name."""
        self._flush()
        storage = self.snapshot.storage
        for name in storage.sizes(FOLDER).keys() - self.record.names():
            storage.delete(name)
        storage.sweep(FOLDER)

    def _flush(self) -> None:
        """Write the rows that wait, and the record."""
        if self._waiting:
            lists = len(self.quantizer.centroids)
            data = encoded(np.concatenate(self.numbers), np.concatenate(self.rows), lists)
            about = SegmentRecord(
                file=sha256(data), header=sha256(data[: header_size(lists)]), rows=self._waiting
            )
            self.snapshot.storage.write(segment_file(about.file), data)
            self.record.segments.append(about)
            self.numbers, self.rows = [], []
        self.record.write(self.snapshot.storage)


def _continued(snapshot: Snapshot) -> _Build | None:
    """An earlier index, if its codes still count."""
    storage = snapshot.storage
    files = {file.name: file for file in snapshot.files(LATENTS)}
    try:
        record = read_record(storage)
        present = [(name, digest) for name, digest in record.files]
        if any(name not in files or files[name].sha256 != digest for name, digest in present):
            return None
        if sum(file.rows for file in files.values()) > _GROWTH * record.trained:
            return None
        newest = newest_digest(snapshot)
        current = None
        if newest != record.newest:
            wanted = Wanted(snapshot.out, [], None, "current")
            picks = picks_of(snapshot, wanted, [files[name] for name, _ in present])
            current = [pick.rows for pick in picks]
        build = _Build(
            snapshot,
            read_quantizer(storage, record),
            record.model_copy(update={"newest": newest}),
        )
        build.keep(current)
    except RestyleError:
        return None
    return build


def _begun(snapshot: Snapshot) -> _Build:
    """A new index without codes."""
    wanted = Wanted(snapshot.out, [], None, "current")
    with SelectedRows.of(snapshot.out, picks_of(snapshot, wanted)) as rows:
        if not len(rows):
            raise SpecError(f"{snapshot.storage.uri} holds no faces to index yet")
        quantizer = _train(rows)
        record = IndexRecord(
            newest=newest_digest(snapshot),
            shape=rows.shape,
            trained=len(rows),
            quantizer=write_quantizer(snapshot.storage, quantizer),
            axes=quantizer.centroids.shape[1],
            lists=len(quantizer.centroids),
            files=[],
        )
    return _Build(snapshot, quantizer, record)


def _train(rows: SelectedRows) -> Quantizer:
    count = sample_size(len(rows))
    # Evenly spaced, so that every part of the input counts.
    chosen = np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))

    def read(part: IntArray) -> FloatArray:
        return rows.read(part).reshape(len(part), -1)

    axes = fit_axes(read(chosen[:: -(-len(chosen) // FITTED)]))
    untrained = Quantizer(axes, np.empty(0, np.float32), np.empty(0, np.float32))
    parts = np.split(chosen, range(FITTED, len(chosen), FITTED))
    points = np.concatenate([untrained.coordinates(read(part)) for part in parts])
    return fit(axes, points, len(rows))


def _read(snapshot: Snapshot, segment: Segment) -> tuple[IntArray, Rows]:
    """All rows of a file of codes, with their lists."""
    numbers = segment.parts(range(len(segment.lists)))
    data = snapshot.storage.read(segment.name)
    found = []
    try:
        for number, part in numbers.items():
            found.append(segment.rows(number, data[part.start : part.end]))
    except ValueError as error:
        raise damaged(snapshot.storage) from error
    lists = np.repeat(np.array(list(numbers), np.int64), [len(each) for each in found])
    return lists, np.concatenate(found)


def _stand(rows: Rows, current: Sequence[IntArray]) -> np.ndarray:
    """Whether each row counts."""
    keys = [(number << 32) + here for number, here in enumerate(current)]
    mine = (rows["file"].astype(np.int64) << 32) + rows["row"]
    return np.isin(mine, np.concatenate(keys))
