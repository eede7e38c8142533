"""Planning: what an input lists now, against what is planned already.

Streams: the manifest's ids are held in a few flat arrays, the listing never is. Every file of the
manifest that has been written counts, so planning that is killed half-way goes on where it was.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest import (
    MAX_UNIT,
    PART_UNITS,
    Origin,
    PlanFile,
    Unit,
    UnitRef,
    images_of,
    new_unit,
    read_plans,
    write_plan,
)
from pipeline.request import Listener
from pipeline.source_image import SourceImage
from pipeline.storage import Storage
from restyle_core.errors import FatalError, SpecError

MAX_NAMED = 5
"""Vanished inputs that are named."""

_MIN_UNIT = 8
_UNITS_WANTED = 32
_NO_CONTAINER = -1
_UNKNOWN = 0


@dataclass
class Planned:
    """What planning came to.

    Attributes:
        new: inputs that were never planned before.
        changed: inputs that were, but are another file now; they have a new revision.
        vanished: inputs planned from the same ``INPUT`` that it no longer lists.
        gone: some of these by name.
        listed: inputs that ``INPUT`` lists, each once.
        units: what was added to the manifest.
        written: the files that hold these, relative to the output.
    """

    new: int = 0
    changed: int = 0
    vanished: int = 0
    gone: list[str] = field(default_factory=list)
    listed: int = 0
    units: list[UnitRef] = field(default_factory=list)
    written: list[str] = field(default_factory=list)


class Known:
    """The newest revision of every planned input, in about 150 bytes each.

    Attributes:
        units: all units of the manifest.
        origins: of its files, each once.
    """

    def __init__(self) -> None:
        self.units: list[UnitRef] = []
        self.origins: list[Origin] = []
        self._rows: dict[bytes, int] = {}
        # One value per row of the manifest, where the dictionary holds the newest row of an input.
        self._size = array("q")
        self._version = array("q")
        self._revision = array("h")
        self._origin = array("i")
        self._container = array("i")
        self._seen = bytearray()
        self._containers: dict[tuple[bytes, int], int] = {}
        self._whole: set[int] = set()
        self._met: set[int] = set()

    @classmethod
    def read(cls, storage: Storage) -> Known:
        """Everything that the manifest of an output holds.

        Raises:
            FatalError: the manifest is damaged.
        """
        known = cls()
        for file in read_plans(storage):
            try:
                known._take(file)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise FatalError(
                    f"{storage.shown(file.name)} is damaged ({str(error).splitlines()[0]}); "
                    "restore it or choose another --out"
                ) from error
        return known

    def __len__(self) -> int:
        return len(self._rows)

    def holds(self, uri: bytes, version: str) -> bool:
        """Whether a container was planned in full; if so, all its inputs count as listed.

        Args:
            uri: of the container.
            version: of its file now; one of which nothing is known is always read again.
        """
        container = self._containers.get((uri, _digest(version)))
        if not version or container is None or container not in self._whole:
            return False
        self._met.add(container)
        return True

    def met(self) -> int:
        """Inputs of containers that :meth:`holds` was asked for."""
        if not self._met:
            return 0
        newest, _, _, container = self._columns()
        return int(np.isin(container[newest], sorted(self._met)).sum())

    def sift(self, images: Sequence[SourceImage]) -> Iterator[SourceImage]:
        """Those of the listed inputs that are to be planned: new ones, and changed ones as such.

        What is listed twice is passed on once.
        """
        for image in images:
            key = bytes.fromhex(image.image_id)
            row = self._rows.get(key)
            if row is None:
                yield self._add(key, image)
            elif not self._seen[row]:
                self._seen[row] = 1
                if self._differs(row, image):
                    yield self._add(key, replace(image, revision=self._revision[row] + 1))

    def is_listed(self) -> int:
        """Inputs that were listed, each once."""
        newest, _, seen, container = self._columns()
        met = np.isin(container[newest], sorted(self._met))
        return int(((seen[newest] != 0) | met).sum())

    def vanished(self, source: str) -> npt.NDArray[np.int64]:
        """Rows of inputs that were planned from ``source`` before and were not listed now."""
        newest, origin, seen, container = self._columns()
        same = [index for index, each in enumerate(self.origins) if each.input == source]
        lost = np.isin(origin[newest], same) & (seen[newest] == 0)
        lost &= ~np.isin(container[newest], sorted(self._met))
        return np.sort(newest[lost])

    def _take(self, file: PlanFile) -> None:
        names = ["image_id", "revision", "size", "version"]
        table = file.parquet.read(columns=names).combine_chunks()
        first = len(self._size)
        ids = _ids(table.column("image_id"))
        self._size.frombytes(table.column("size").to_numpy().astype(np.int64).tobytes())
        self._revision.frombytes(table.column("revision").to_numpy().astype(np.int16).tobytes())
        self._version.frombytes(_digests(table.column("version")).tobytes())
        self._origin.extend(self._origins_of(file.origin, ids))
        self._rows.update(zip(ids, range(first, first + len(ids)), strict=True))
        for unit, (uri, version) in _containers(file):
            self._container.extend([self._container_of(file.origin, uri, version)] * unit.images)
        self._seen.extend(bytes(len(ids)))
        self.units += file.units

    def _origins_of(self, origin: Origin, ids: list[bytes]) -> list[int]:
        if not origin.input:
            # Tried again: they still belong to the input that they came from.
            return [self._origin[self._rows[key]] if key in self._rows else -1 for key in ids]
        return [self._origin_index(origin)] * len(ids)

    def _origin_index(self, origin: Origin) -> int:
        if origin not in self.origins:
            self.origins.append(origin)
        return self.origins.index(origin)

    def _container_of(self, origin: Origin, uri: bytes, version: str) -> int:
        if not uri:
            return _NO_CONTAINER
        index = self._containers.setdefault((uri, _digest(version)), len(self._containers))
        if origin.input and origin.cut != uri.hex():
            self._whole.add(index)
        return index

    def _add(self, key: bytes, image: SourceImage) -> SourceImage:
        self._rows[key] = len(self._size)
        self._size.append(image.size)
        self._version.append(_digest(image.version))
        self._revision.append(image.revision)
        self._origin.append(-1)
        self._container.append(_NO_CONTAINER)
        self._seen.append(1)
        return image

    def _differs(self, row: int, image: SourceImage) -> bool:
        sizes, versions = (
            (self._size[row], image.size),
            (self._version[row], _digest(image.version)),
        )
        return (min(sizes) >= 0 and sizes[0] != sizes[1]) or (
            _UNKNOWN not in versions and versions[0] != versions[1]
        )

    def _columns(self) -> tuple[npt.NDArray[np.int64], ...]:
        newest = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        return (
            newest,
            np.array(self._origin, np.int64),
            np.frombuffer(bytes(self._seen), np.uint8).astype(np.int64),
            np.array(self._container, np.int64),
        )


@dataclass(frozen=True)
class Planner:
    """Adds what is new to a manifest.

    Attributes:
        storage: the output.
        known: its manifest.
        origin: where the inputs come from.
        listener: is told how many were found.
        before_first: is called once, before the first file is written.
    """

    storage: Storage
    known: Known
    origin: Origin
    listener: Listener
    before_first: Callable[[], None] = lambda: None

    def plan(self, batches: Iterable[Sequence[SourceImage]], limit: int | None = None) -> Planned:
        """Plan what a listing holds.

        Args:
            batches: the listing; no container is split between two of them.
            limit: take only the first so many inputs; what vanished is not asked then.

        Raises:
            SpecError: the same input was planned with another column.
            FatalError: the output cannot be written.
        """
        self._check_column()
        planned = Planned()
        parts = _Parts(self.storage, self.origin, len(self.known.units), self.before_first)
        try:
            for batch, cut in _limited(batches, limit, self.known.met):
                planned.listed += len(batch)
                self.listener.listed(planned.listed)
                for container, images in _by_container(batch):
                    fresh = list(self.known.sift(images))
                    planned.changed += sum(image.revision > 1 for image in fresh)
                    planned.new += sum(image.revision == 1 for image in fresh)
                    parts.add(container, fresh, is_cut=cut)
            parts.close()
        finally:
            planned.units, planned.written = parts.units, parts.written
            self.known.units += parts.units
        planned.listed = self.known.is_listed()
        if limit is None:
            lost = self.known.vanished(self.origin.input)
            planned.vanished = len(lost)
            planned.gone = _sources(self.storage, lost[:MAX_NAMED])
        return planned

    def _check_column(self) -> None:
        for earlier in self.known.origins:
            if earlier.input == self.origin.input and earlier.column != self.origin.column:
                raise SpecError(
                    f"{self.origin.input} was planned with --column {earlier.column or '(none)'}; "
                    "give the same, or choose another --out"
                )


class _Parts:
    """Collects new inputs and writes them to the manifest, file by file."""

    def __init__(
        self, storage: Storage, origin: Origin, number: int, before_first: Callable[[], None]
    ) -> None:
        self.units: list[UnitRef] = []
        self.written: list[str] = []
        self._storage = storage
        self._origin = origin
        self._number = number
        self._before_first = before_first
        self._loose: list[SourceImage] = []
        self._containers: list[list[SourceImage]] = []

    def add(self, container: bytes, images: list[SourceImage], *, is_cut: bool) -> None:
        if not images:
            return
        if not container:
            self._loose += images
        else:
            self._containers.append(images)
            if is_cut:
                self._origin = replace(self._origin, cut=container.hex())
        while self._planned_units() >= PART_UNITS:
            self._write(MAX_UNIT, is_last=False)

    def close(self) -> None:
        count = len(self._loose) + sum(map(len, self._containers))
        if count:
            self._write(MAX_UNIT if self.written else unit_size(count), is_last=True)

    def _planned_units(self) -> int:
        counts = [len(self._loose) // MAX_UNIT, *(_cuts(len(c)) for c in self._containers)]
        return sum(counts)

    def _write(self, size: int, *, is_last: bool) -> None:
        whole = len(self._loose) if is_last else len(self._loose) // size * size
        whole = whole if is_last else min(whole, PART_UNITS * size)
        groups = [self._loose[:whole], *self._containers]
        self._loose, self._containers = self._loose[whole:], []
        units: list[Unit] = []
        for group in groups:
            for start in range(0, len(group), size):
                units.append(new_unit(self._number + len(units), group[start : start + size]))
        if not self.written:
            self._before_first()
        refs = write_plan(self._storage, units, self._origin)
        self._number += len(units)
        self.units += refs
        self.written.append(refs[0].plan)


def unit_size(count: int) -> int:
    """Inputs per unit: small jobs get small units, so that they overlap and show progress."""
    return min(MAX_UNIT, max(_MIN_UNIT, _cuts(count, _UNITS_WANTED)))


def _cuts(count: int, size: int = MAX_UNIT) -> int:
    return -(-count // size)


def _limited(
    batches: Iterable[Sequence[SourceImage]], limit: int | None, met: Callable[[], int]
) -> Iterator[tuple[Sequence[SourceImage], bool]]:
    """The first so many inputs of a listing, and whether the last batch is only a part of one."""
    taken = 0
    for batch in batches:
        if limit is None:
            yield batch, False
            continue
        left = limit - taken - met()
        if left <= 0:
            return
        taken += min(left, len(batch))
        yield batch[:left], left < len(batch)


def _by_container(batch: Sequence[SourceImage]) -> Iterator[tuple[bytes, list[SourceImage]]]:
    """Neighbours of one container together, with its URI; empty for files of their own."""
    current, group = b"", list[SourceImage]()
    for image in batch:
        # What is wrong with a container as a whole belongs to it too.
        within = image.uri if image.place or image.uri == current else b""
        if within != current and group:
            yield current, group
            group = []
        current = within
        group.append(image)
    if group:
        yield current, group


def _containers(file: PlanFile) -> Iterator[tuple[UnitRef, tuple[bytes, str]]]:
    """Each unit with URI and version of its container; both empty when it has none."""
    places = file.parquet.read(columns=["place"]).column("place")
    if not pc.any(pc.not_equal(places, "")).as_py():
        yield from ((unit, (b"", "")) for unit in file.units)
        return
    for unit in file.units:
        table = file.parquet.read_row_group(unit.group, columns=["uri", "version", "place"])
        within = table.filter(pc.not_equal(table.column("place"), "")).slice(0, 1).to_pylist()
        yield unit, (within[0]["uri"], within[0]["version"]) if within else (b"", "")


def _sources(storage: Storage, rows: npt.NDArray[np.int64]) -> list[str]:
    """What rows of the manifest, counted through all its files, are called."""
    wanted, found = [int(row) for row in rows], list[str]()
    if not wanted:
        return found
    first = 0
    for file in read_plans(storage):
        for unit in file.units:
            within = [row - first for row in wanted if first <= row < first + unit.images]
            if within:
                images = images_of(storage, file, unit.group)
                found += [images[row].source for row in within]
            first += unit.images
        if len(found) == len(wanted):
            break
    return found


def _ids(column: pa.ChunkedArray) -> list[bytes]:
    """Hexadecimal ids as bytes: 16 instead of 32, without a string of each in between."""
    joined = bytes.fromhex("".join(column.to_pylist()))
    if len(joined) != 16 * len(column):
        raise ValueError("it holds ids that are none")
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]


def _digests(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    encoded = pc.dictionary_encode(column).combine_chunks()
    of_each = np.array([_digest(value) for value in encoded.dictionary.to_pylist()], np.int64)
    digests: npt.NDArray[np.int64] = of_each[encoded.indices.to_numpy()]
    return digests


def _digest(version: str) -> int:
    """64 bits that tell versions apart, in this process; 0 for one that is not known."""
    return (hash(version) or 1) if version else _UNKNOWN
