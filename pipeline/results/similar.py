"""Exact nearest neighbours of a latent in a run, with one row group in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.datasets import LATENTS, metric_columns, schema
from restyle.pipeline.ledger.parquet_files import open_parquet
from restyle.pipeline.results.faces import Place
from restyle.pipeline.results.latent_file import IntArray, LatentFile, open_latents
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class Found:
    """The nearest rows so far, nearest first.

    Attributes:
        distances: [N].
        files: [N] indices of their files.
        rows: [N] indices in those files.
    """

    distances: FloatArray
    files: IntArray
    rows: IntArray

    def with_(self, other: Found, most: int) -> Found:
        """The nearest of two results."""
        distances = np.concatenate([self.distances, other.distances])
        # Stable, so that of equal distances the earlier row comes first.
        order = np.argsort(distances, kind="stable")[:most]
        return Found(
            distances[order],
            np.concatenate([self.files, other.files])[order],
            np.concatenate([self.rows, other.rows])[order],
        )


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The faces nearest to a latent.

    Attributes:
        rows: N rows, nearest first; see :func:`nearest`.
        places: where the rows of each face are, for its pictures.
    """

    rows: pa.Table
    places: list[Place]


def nearest(
    snapshot: Snapshot, latent: FloatArray, count: int, layers: Sequence[int] | None = None
) -> pa.Table:
    """Find the faces with the nearest latents by exhaustive search.

    Takes and raises what :func:`neighbours` does.

    Returns:
        At most ``count`` rows, nearest first: ``distance``, the root mean square over styles of the
        distance between style vectors; ``source``, ``face``, metrics, ``image_id``, ``revision``.
    """
    return neighbours(snapshot, latent, count, layers).rows


def neighbours(
    snapshot: Snapshot, latent: FloatArray, count: int, layers: Sequence[int] | None = None
) -> Neighbours:
    """Find the faces with the nearest latents by exhaustive search.

    Args:
        snapshot: the run.
        latent: [n_styles, style_dim] float32.
        count: number of faces.
        layers: the styles to compare; all when None.

    Raises:
        SpecError: the latent has another shape than the run's, or there are no such layers.
        FatalError: a file is missing or damaged.
    """
    names = [file.name for file in snapshot.files(LATENTS)]
    found = Found(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
    for number, name in enumerate(names):
        with open_latents(snapshot.out, name) as file:
            check_query(file.shape, latent, layers)
            for rows, distances in _distances(snapshot, file, latent, layers):
                here = np.full(len(rows), number)
                found = found.with_(Found(distances, here, rows), count)
    return neighbours_of(snapshot, names, found)


def neighbours_of(snapshot: Snapshot, names: Sequence[str], found: Found) -> Neighbours:
    """Read what is shown of the nearest rows.

    Args:
        snapshot: the run.
        names: of its files of latents.
        found: rows of these files.

    Raises:
        FatalError: a file is missing or damaged.
    """
    rows = _table(snapshot, names, found)
    return Neighbours(rows, _places(snapshot, names, found, rows))


def _places(snapshot: Snapshot, names: Sequence[str], found: Found, rows: pa.Table) -> list[Place]:
    owners = {file.name: files for files in snapshot.sets for file in files.files}
    keys = (rows[name].to_pylist() for name in ("image_id", "revision", "face"))
    return [
        Place(owners[names[number]], row, *key)
        for number, row, key in zip(
            found.files.tolist(), found.rows.tolist(), zip(*keys, strict=True), strict=True
        )
    ]


def _distances(
    snapshot: Snapshot, file: LatentFile, latent: FloatArray, layers: Sequence[int] | None
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Yield rows of newest revisions in a file with their distances, by row group."""
    stands = None
    if snapshot.newest.num_rows:
        keys = file.parquet.read(["image_id", "revision"], use_threads=False)
        stands = np.asarray(snapshot.stands(keys))
    for group, start, count in file.groups():
        within = np.arange(count)
        if stands is not None:
            within = np.flatnonzero(stands[start : start + count])
        values = np.empty((len(within), *file.shape), np.float32)
        if len(within):
            file.read_group(group, within, values.reshape(len(within), -1))
        wanted = latent
        if layers is not None:
            values, wanted = values[:, list(layers)], latent[list(layers)]
        values -= wanted
        flat = values.reshape(len(within), -1)
        squares = np.einsum("ij,ij->i", flat, flat)
        yield within + start, np.sqrt(squares / wanted.shape[0])


def check_query(shape: tuple[int, int], latent: FloatArray, layers: Sequence[int] | None) -> None:
    """Check that a latent, or some of its styles, can be compared with those of a run.

    Raises:
        SpecError: they cannot.
    """
    if latent.shape != shape:
        raise SpecError(f"the latent is {list(latent.shape)}, those of this run are {list(shape)}")
    if layers is not None and not (layers and 0 <= min(layers) <= max(layers) < shape[0]):
        raise SpecError(f"there are no such layers; the latents have styles 0-{shape[0] - 1}")


def _shown(file_schema: pa.Schema) -> list[str]:
    return ["source", "face", *metric_columns(file_schema), "image_id", "revision"]


def _table(snapshot: Snapshot, names: Sequence[str], found: Found) -> pa.Table:
    """Read the displayed columns of the rows."""
    tables: dict[int, pa.Table] = {}
    for number in np.unique(found.files).tolist():
        with open_parquet(snapshot.out, names[number]) as parquet:
            shown = _shown(parquet.schema_arrow)
            tables[number] = parquet.read(shown, use_threads=False).select(shown)
    picked = [
        tables[number].slice(row, 1)
        for number, row in zip(found.files.tolist(), found.rows.tolist(), strict=True)
    ]
    if picked:
        rows = pa.concat_tables(picked)
    else:
        rows = pa.table({name: [] for name in _shown(schema(LATENTS, snapshot.settings, (1, 1)))})
    return rows.add_column(0, "distance", pa.array(found.distances))
