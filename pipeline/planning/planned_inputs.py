"""Index of all planned inputs, which identifies new and changed ones in a listing."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from restyle.pipeline.forgetting.tombstone import Tombstone, check_complete
from restyle.pipeline.ledger.manifest import (
    Origin,
    PlanFile,
    UnitRef,
    damaged,
    plans_among,
    read_plans,
)
from restyle.pipeline.ledger.output import Manifest, Output
from restyle.pipeline.sources.source_image import SourceImage

_NO_CONTAINER = -1
_UNKNOWN = 0


class PlannedInputs:
    """Index of the newest revision of every planned input; takes about 160 bytes per input.

    Args:
        manifest: the manifest that new units are added to.

    Attributes:
        manifest: The manifest.
        origins: Distinct origins of the plan files.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.origins: list[Origin] = []
        self._rows: dict[bytes, int] = {}
        # The arrays have one value per manifest row; _rows maps an id to its newest row.
        self._size = array("q")
        self._version = array("q")
        self._landmarks = array("q")
        self._revision = array("h")
        self._origin = array("i")
        self._container = array("i")
        self._seen = bytearray()
        self._tombstone: Tombstone | None = None
        self._passed: set[str] = set()
        self._containers: dict[tuple[bytes, int], int] = {}
        self._whole: set[int] = set()
        self._met: set[int] = set()

    @classmethod
    def read(cls, output: Output) -> PlannedInputs:
        """Index the manifest of an output. The caller must hold the driver's lock.

        Args:
            output: the output; its ``manifest`` is set, so that the plans are read only once.

        Raises:
            FatalError: the manifest is damaged.
        """
        check_complete(output.storage, output.names)
        planned_inputs = cls(Manifest(output.storage, plans_among(output.names)))
        planned_inputs._tombstone = Tombstone.read(output.storage, output.names)
        for file in read_plans(output.storage, planned_inputs.manifest.plans):
            planned_inputs.manifest.take(file)
            try:
                planned_inputs._take(file)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise damaged(output.storage, file.name, error) from error
        output.manifest = planned_inputs.manifest
        return planned_inputs

    def __len__(self) -> int:
        return len(self._rows)

    def revision(self, image_id: str) -> int:
        """Return the newest revision of an input; 0 if it is not planned."""
        try:
            row = self._rows.get(bytes.fromhex(image_id))
        except ValueError:
            return 0
        return 0 if row is None else self._revision[row]

    def holds(self, uri: bytes, version: str) -> bool:
        """Whether a container is planned completely; if so, all its inputs are marked as listed.

        Args:
            uri: URI of the container.
            version: current version of the container's file; if empty, the result is False.
        """
        container = self._containers.get((uri, _digest(version)))
        if not version or container is None or container not in self._whole:
            return False
        self._met.add(container)
        return True

    def met(self) -> int:
        """Return the number of inputs in containers for which :meth:`holds` returned True."""
        if not self._met:
            return 0
        newest, _, _, container = self._columns()
        return int(np.isin(container[newest], sorted(self._met)).sum())

    def sift(self, images: Sequence[SourceImage]) -> Iterator[SourceImage]:
        """Yield the listed inputs to plan: new ones, and changed ones with a higher revision.

        An input that is listed twice is yielded at most once, one that was forgotten never.
        """
        for image in images:
            key = bytes.fromhex(image.image_id)
            row = self._rows.get(key)
            if row is None and self._tombstone and self._tombstone.holds(image.image_id):
                self._passed.add(image.image_id)
            elif row is None:
                yield self._add(key, image)
            elif not self._seen[row]:
                self._seen[row] = 1
                if self._differs(row, image):
                    yield self._add(key, replace(image, revision=self._revision[row] + 1))

    def forgotten(self) -> int:
        """Return the number of distinct inputs listed so far that were forgotten."""
        return len(self._passed)

    def is_listed(self) -> int:
        """Return the number of distinct inputs listed so far."""
        newest, _, seen, container = self._columns()
        met = np.isin(container[newest], sorted(self._met))
        return int(((seen[newest] != 0) | met).sum())

    def vanished(self, source: str) -> npt.NDArray[np.int64]:
        """Return the manifest rows, (n,) int64, of unlisted inputs planned from ``source``."""
        newest, origin, seen, container = self._columns()
        same = [index for index, each in enumerate(self.origins) if each.input == source]
        lost = np.isin(origin[newest], same) & (seen[newest] == 0)
        lost &= ~np.isin(container[newest], sorted(self._met))
        return np.sort(newest[lost])

    def add(self, image: SourceImage) -> None:
        """Add an input that is being planned."""
        self._add(bytes.fromhex(image.image_id), image)

    def _take(self, file: PlanFile) -> None:
        names = ["image_id", "revision", "size", "version"]
        table = file.parquet.read(columns=names, use_threads=False).combine_chunks()
        first = len(self._size)
        ids = _ids(table.column("image_id"))
        self._size.frombytes(table.column("size").to_numpy().astype(np.int64).tobytes())
        self._revision.frombytes(table.column("revision").to_numpy().astype(np.int16).tobytes())
        self._version.frombytes(_digests(table.column("version")).tobytes())
        self._landmarks.frombytes(_landmarks(file).tobytes())
        self._origin.extend(self._origins_of(file.origin, ids))
        self._rows.update(zip(ids, range(first, first + len(ids)), strict=True))
        for unit, (uri, version) in _containers(file):
            self._container.extend([self._container_of(file.origin, uri, version)] * unit.images)
        self._seen.extend(bytes(len(ids)))

    def _origins_of(self, origin: Origin, ids: list[bytes]) -> list[int]:
        if not origin.input:
            # Retried inputs keep the origin that they were first planned from.
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
        self._landmarks.append(_digest(image.landmarks))
        self._revision.append(image.revision)
        self._origin.append(-1)
        self._container.append(_NO_CONTAINER)
        self._seen.append(1)
        return image

    def _differs(self, row: int, image: SourceImage) -> bool:
        # An input keeps its landmarks where a file of others is given.
        if image.landmarks and self._landmarks[row] != _digest(image.landmarks):
            return True
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


def read_revisions(manifest: Manifest) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.int64]]:
    """Return ids (n,) of 16 bytes and revisions (n,), int64, of all manifest rows in order.

    Raises:
        FatalError: the manifest is damaged.
    """
    ids, revisions = bytearray(), array("h")
    for file in read_plans(manifest.storage, manifest.plans):
        try:
            table = file.parquet.read(columns=["image_id", "revision"], use_threads=False)
            ids += b"".join(_ids(table.column("image_id")))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(manifest.storage, file.name, error) from error
        revisions.extend(table.column("revision").to_pylist())
    return np.frombuffer(bytes(ids), "S16"), np.array(revisions, np.int64)


def _containers(file: PlanFile) -> Iterator[tuple[UnitRef, tuple[bytes, str]]]:
    """Yield each unit with URI and version of its container; both are empty if it has none."""
    places = file.parquet.read(columns=["place"], use_threads=False).column("place")
    if not pc.any(pc.not_equal(places, "")).as_py():
        yield from ((unit, (b"", "")) for unit in file.units)
        return
    for unit in file.units:
        table = file.parquet.read_row_group(
            unit.group, columns=["uri", "version", "place"], use_threads=False
        )
        within = table.filter(pc.not_equal(table.column("place"), "")).slice(0, 1).to_pylist()
        yield unit, (within[0]["uri"], within[0]["version"]) if within else (b"", "")


def _ids(column: pa.ChunkedArray) -> list[bytes]:
    """Convert hexadecimal ids to 16 bytes each."""
    joined = bytes.fromhex("".join(column.to_pylist()))
    if len(joined) != 16 * len(column):
        raise ValueError("it holds invalid ids")
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]


def _landmarks(file: PlanFile) -> npt.NDArray[np.int64]:
    """Return a digest of the given landmarks of each input; (n,), int64."""
    if "landmarks" not in file.parquet.schema_arrow.names:
        return np.zeros(sum(unit.images for unit in file.units), np.int64)
    return _digests(file.parquet.read(columns=["landmarks"], use_threads=False).column(0))


def _digests(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    encoded = pc.dictionary_encode(column).combine_chunks()
    of_each = np.array([_digest(value) for value in encoded.dictionary.to_pylist()], np.int64)
    digests: npt.NDArray[np.int64] = of_each[encoded.indices.to_numpy()]
    return digests


def _digest(version: str | bytes) -> int:
    """Return a 64-bit hash of a value, stable within this process; 0 if it is empty."""
    return (hash(version) or 1) if version else _UNKNOWN
