"""Reading the faces of an inversion in parts, as input of later operations."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.core.errors import FatalError
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import GENERATORS, LATENTS, latent_shape
from restyle.pipeline.ledger.entries import FileSet
from restyle.pipeline.ledger.parquet_files import file_of, open_parquet
from restyle.pipeline.ledger.source_names import NO_MATCH, best_rank, source_ranks
from restyle.pipeline.results.snapshot import Snapshot, read_snapshot
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import open_storage

Key = tuple[str, int, int]
"""``image_id``, ``revision`` and ``face``: the key of ``latents``."""

_COLUMNS = ["image_id", "revision", "face", "source", "latent", "quad"]


@dataclass(frozen=True, eq=False)
class FaceRows:
    """Rows of ``latents``.

    Attributes:
        keys: of N faces.
        sources: URIs or shard members of the photographs.
        latents: [N, n_styles, style_dim] float32.
        quads: [N, 4, 2] float64.
    """

    keys: Sequence[Key]
    sources: Sequence[str]
    latents: npt.NDArray[np.float32]
    quads: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Sequence[int]) -> FaceRows:
        """The rows with these indices."""
        chosen = list(rows)
        return FaceRows(
            [self.keys[row] for row in chosen],
            [self.sources[row] for row in chosen],
            self.latents[chosen],
            self.quads[chosen],
        )


@dataclass(frozen=True)
class Selection:
    """A selection of faces.

    Attributes:
        pattern: of ``source``, as in :mod:`restyle.pipeline.ledger.source_names`; None for all.
        limit: maximum number; None for all.
    """

    pattern: str | None = None
    limit: int | None = None


def matching(
    snapshot: Snapshot, pattern: str | None
) -> Callable[[pa.Table], npt.NDArray[np.bool_]]:
    """Return a predicate that selects the rows whose source matches a pattern.

    Args:
        snapshot: snapshot of the inversion.
        pattern: as in :class:`Selection`.

    Returns:
        Function from a table with a column ``source`` to one boolean per row.

    Raises:
        FatalError: a file is damaged.
    """
    if pattern is None:
        return lambda rows: np.ones(rows.num_rows, bool)
    rank = best_rank((_sources(snapshot, file.name) for file in snapshot.files(LATENTS)), pattern)
    return lambda rows: (source_ranks(rows["source"], pattern) == rank) & (rank != NO_MATCH)


def _sources(snapshot: Snapshot, name: str) -> pa.ChunkedArray:
    with open_parquet(snapshot.out, name) as parquet, _readable(snapshot.out, name):
        rows = parquet.read(columns=["image_id", "revision", "source"], use_threads=False)
    return rows.filter(snapshot.stands(rows))["source"]


def select_keys(out: str, selection: Selection) -> list[Key]:
    """Keys of selected faces, of each input's newest revision.

    Args:
        out: the output, a path or any fsspec URI.
        selection: filter and limit.

    Raises:
        FatalError: a file is damaged.
    """
    snapshot = read_snapshot(out)
    is_asked = matching(snapshot, selection.pattern)
    found: list[Key] = []
    for file in snapshot.files(LATENTS):
        with open_parquet(out, file.name) as parquet, _readable(out, file.name):
            rows = parquet.read(columns=_COLUMNS[:4], use_threads=False)
        rows = rows.filter(snapshot.stands(rows))
        found += _keys(rows.filter(pa.array(is_asked(rows))))
        if selection.limit is not None and len(found) >= selection.limit:
            break
    return found[: selection.limit]


class UnitFaces:
    """Reads the faces of single units of an output. Thread-safe.

    Args:
        out: the output, a path or any fsspec URI.
    """

    def __init__(self, out: str) -> None:
        self._out = out
        self._storage = open_storage(out)
        self._packed: dict[str, FileSet] = {}
        self._last_keys: tuple[str, set[Key]] = ("", set())

    def keys(self, unit: str) -> set[Key]:
        """Keys of all faces of a unit, and of units in the same pack; cached for the last file.

        Raises:
            FatalError: a file is damaged.
        """
        name = self._file_of(unit)
        if name is None:
            return set()
        if self._last_keys[0] != name:
            with open_parquet(self._out, name) as parquet, _readable(self._out, name):
                keys = _keys(parquet.read(columns=_COLUMNS[:3], use_threads=False))
            self._last_keys = (name, set(keys))
        return self._last_keys[1]

    def read(self, unit: str, inputs: set[tuple[str, int]]) -> FaceRows:
        """The faces of some inputs, in the order of the file.

        Args:
            unit: the unit of the inputs.
            inputs: ``image_id`` and ``revision``.

        Raises:
            FatalError: a file is damaged, or lacks an input.
        """
        name = self._file_of(unit)
        parts: list[FaceRows] = []
        if name is not None:
            with open_parquet(self._out, name) as parquet, _readable(self._out, name):
                keys = _keys(parquet.read(columns=_COLUMNS[:3], use_threads=False))
                wanted = np.array([key[:2] in inputs for key in keys], np.bool_)
                start = 0
                for group in range(parquet.num_row_groups):
                    end = start + parquet.metadata.row_group(group).num_rows
                    rows = np.flatnonzero(wanted[start:end])
                    if len(rows):
                        table = parquet.read_row_group(group, columns=_COLUMNS, use_threads=False)
                        parts.append(_rows(table).take(rows.tolist()))
                    start = end
        found = {key[:2] for part in parts for key in part.keys}
        if found != inputs:
            raise FatalError(
                f"{self._storage.uri} has faces of {len(found)} instead of {len(inputs)} "
                f"photographs of its unit {unit} that were planned; restore it"
            )
        return _joined(parts)

    def weights(self, unit: str, key: Key) -> bytes | None:
        """Weights of the generator that was tuned for a face, see :func:`tuned_weights`."""
        files = self._files_of(unit)
        return None if files is None else tuned_weights(self._out, files, key)

    def _file_of(self, unit: str) -> str | None:
        files = self._files_of(unit)
        named = None if files is None else file_of(files, LATENTS)
        return None if named is None else named[0]

    def _files_of(self, unit: str) -> FileSet | None:
        if unit not in self._packed:
            record = ledger.find(self._storage, unit)
            if record is not None:
                return FileSet((record,), record.files)
            # The unit may have been compacted into a pack meanwhile.
            entries = ledger.read_entries(self._storage)
            packs = [FileSet.of_pack(pack) for pack in entries.packs]
            self._packed = {record.unit: pack for pack in packs for record in pack.units}
        return self._packed.get(unit)


def tuned_weights(out: str, files: FileSet, key: Key) -> bytes | None:
    """Weights of the generator that was tuned for a face.

    Args:
        out: the output, a path or any fsspec URI.
        files: of its unit or pack.
        key: of the face.

    Returns:
        Differences from the model's weights as safetensors; None if no generator was tuned.

    Raises:
        FatalError: the file is damaged, or lacks the face.
    """
    named = file_of(files, GENERATORS)
    if named is None:
        return None
    with open_parquet(out, named[0]) as parquet, _readable(out, named[0]):
        for group in range(parquet.num_row_groups):
            keys = _keys(parquet.read_row_group(group, columns=_COLUMNS[:3], use_threads=False))
            if key not in keys:
                continue
            batches = parquet.iter_batches(1, [group], ["weights"], use_threads=False)
            batch = next(itertools.islice(batches, keys.index(key), None))
            weights: bytes = batch.column(0)[0].as_py()
            return weights
    raise FatalError(f"{out}/{named[0]} lacks the generator of a face; {DAMAGE}")


@contextlib.contextmanager
def _readable(out: str, name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FatalError(
            f"cannot read {out}/{name}: {str(error).splitlines()[0]}; {DAMAGE}"
        ) from error


def _rows(table: pa.Table) -> FaceRows:
    shape = latent_shape(table.schema)
    latents = table.column("latent").combine_chunks().flatten().to_numpy()
    quads = table.column("quad").combine_chunks().flatten().to_numpy()
    return FaceRows(
        _keys(table),
        table.column("source").to_pylist(),
        latents.reshape(-1, *shape),
        quads.reshape(-1, 4, 2),
    )


def _keys(table: pa.Table) -> list[Key]:
    return list(zip(*(table.column(name).to_pylist() for name in _COLUMNS[:3]), strict=True))


def _joined(parts: Sequence[FaceRows]) -> FaceRows:
    return FaceRows(
        [key for part in parts for key in part.keys],
        [source for part in parts for source in part.sources],
        np.concatenate([part.latents for part in parts]),
        np.concatenate([part.quads for part in parts]),
    )
