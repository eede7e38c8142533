"""The faces of a finished inversion, some at a time: what comes after it starts from them."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import ledger
from pipeline.datasets import LATENTS, latent_shape
from pipeline.ledger import FileSet, read_file_sets
from pipeline.parquet_files import file_of, open_parquet
from pipeline.storage import open_storage
from restyle_core.errors import FatalError

Key = tuple[str, int, int]
"""``image_id``, ``revision`` and ``face``: what names a row of ``latents``."""

_COLUMNS = ["image_id", "revision", "face", "source", "latent", "quad"]


@dataclass(frozen=True, eq=False)
class FaceRows:
    """Rows of ``latents``.

    Attributes:
        keys: N of them.
        sources: the photographs as the user knows them.
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
        """Some of them."""
        chosen = list(rows)
        return FaceRows(
            [self.keys[row] for row in chosen],
            [self.sources[row] for row in chosen],
            self.latents[chosen],
            self.quads[chosen],
        )


@dataclass(frozen=True)
class Selection:
    """Which faces.

    Attributes:
        pattern: of ``source``, with ``*`` and ``?``; any when None.
        limit: at most so many; all when None.
    """

    pattern: str | None = None
    limit: int | None = None


def select_keys(out: str, selection: Selection) -> list[Key]:
    """Keys of the faces that stand now: of each input those of its newest revision.

    Args:
        out: the output, a path or any fsspec URI.
        selection: which of them.

    Raises:
        FatalError: a file is damaged.
    """
    keys = [
        key
        for key, source in current_faces(out)
        if selection.pattern is None or fnmatch.fnmatchcase(source, selection.pattern)
    ]
    return keys[: selection.limit]


def current_faces(out: str) -> Iterator[tuple[Key, str]]:
    """Key and source of every face that stands now.

    Raises:
        FatalError: a file is damaged.
    """
    found: list[tuple[Key, str]] = []
    newest: dict[str, int] = {}
    for table in _tables(out, _COLUMNS[:4], 1 << 16):
        columns = [table.column(name).to_pylist() for name in _COLUMNS[:4]]
        for image_id, revision, face, source in zip(*columns, strict=True):
            newest[image_id] = max(revision, newest.get(image_id, 0))
            found.append(((image_id, revision, face), source))
    yield from (each for each in found if newest[each[0][0]] == each[0][1])


def read_faces(out: str, wanted: set[Key], most: int) -> Iterator[FaceRows]:
    """The rows of these keys, at most ``most`` at a time.

    Raises:
        FatalError: a file is damaged.
    """
    waiting: list[FaceRows] = []
    for table in _tables(out, _COLUMNS, max(most, 64)):
        rows = _rows(table)
        rows = rows.take([row for row, key in enumerate(rows.keys) if key in wanted])
        for start in range(0, len(rows), most):
            waiting.append(rows.take(range(start, min(start + most, len(rows)))))
            if sum(map(len, waiting)) >= most:
                joined = _joined(waiting)
                yield joined.take(range(most))
                left = joined.take(range(most, len(joined)))
                waiting = [left] if len(left) else []
    if waiting:
        yield _joined(waiting)


class UnitFaces:
    """Reads the faces of single units of an output. Several threads may use one.

    Args:
        out: the output, a path or any fsspec URI.
    """

    def __init__(self, out: str) -> None:
        self._out = out
        self._storage = open_storage(out)
        self._packed: dict[str, FileSet] = {}

    def read(self, unit: str, inputs: set[tuple[str, int]]) -> FaceRows:
        """The faces of some inputs, in the order in which they stand.

        Args:
            unit: whose inputs they are.
            inputs: ``image_id`` and ``revision``.

        Raises:
            FatalError: a file is damaged, or does not hold them.
        """
        files = self._files_of(unit)
        named = file_of(files, LATENTS) if files is not None else None
        parts: list[FaceRows] = []
        if named is not None:
            with open_parquet(self._out, named[0]) as parquet, _readable(self._out, named[0]):
                keys = parquet.read(columns=_COLUMNS[:2], use_threads=False)
                columns = (keys.column(name).to_pylist() for name in _COLUMNS[:2])
                wanted = np.array([key in inputs for key in zip(*columns, strict=True)], np.bool_)
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
                f"{self._storage.uri} holds {len(found)} of {len(inputs)} photographs of its unit "
                f"{unit} that were planned; restore it, or choose another --to"
            )
        return _joined(parts)

    def _files_of(self, unit: str) -> FileSet | None:
        if unit not in self._packed:
            record = ledger.find(self._storage, unit)
            if record is not None:
                return FileSet((record,), record.files)
            # It may have been merged with others since these were looked at.
            entries = ledger.read_entries(self._storage)
            packs = [FileSet.of_pack(pack) for pack in entries.packs]
            self._packed = {record.unit: pack for pack in packs for record in pack.units}
        return self._packed.get(unit)


@contextlib.contextmanager
def _readable(out: str, name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FatalError(
            f"cannot read {out}/{name}: {str(error).splitlines()[0]}; "
            "`restyle verify` tells what else is damaged"
        ) from error


def _tables(out: str, columns: list[str], rows: int) -> Iterator[pa.Table]:
    for files in read_file_sets(open_storage(out)):
        named = file_of(files, LATENTS)
        if named is None:
            continue
        with open_parquet(out, named[0]) as parquet, _readable(out, named[0]):
            schema = pa.schema([parquet.schema_arrow.field(name) for name in columns])
            for batch in parquet.iter_batches(rows, columns=columns, use_threads=False):
                # Batches leave out what the file's fields say of themselves.
                yield pa.Table.from_batches([batch]).cast(schema)


def _rows(table: pa.Table) -> FaceRows:
    shape = latent_shape(table.schema)
    latents = table.column("latent").combine_chunks().flatten().to_numpy()
    quads = table.column("quad").combine_chunks().flatten().to_numpy()
    names = (table.column(name).to_pylist() for name in _COLUMNS[:3])
    return FaceRows(
        list(zip(*names, strict=True)),
        table.column("source").to_pylist(),
        latents.reshape(-1, *shape),
        quads.reshape(-1, 4, 2),
    )


def _joined(parts: Sequence[FaceRows]) -> FaceRows:
    return FaceRows(
        [key for part in parts for key in part.keys],
        [source for part in parts for source in part.sources],
        np.concatenate([part.latents for part in parts]),
        np.concatenate([part.quads for part in parts]),
    )
