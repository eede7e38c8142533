"""Nearest neighbours by the index: distances to the latents that it takes for the nearest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.datasets import LATENTS
from restyle.pipeline.results.forms.extras import require
from restyle.pipeline.results.latent_file import IntArray, open_latents
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.similar import Found, Neighbours, check_query, neighbours_of
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.similarity.quantizer import Quantizer
from restyle.pipeline.similarity.record import (
    IndexRecord,
    damaged,
    read_quantizer,
    read_record,
    read_segments,
    remedy,
)
from restyle.pipeline.similarity.segment import Rows, Segment
from restyle.pipeline.storage.filesystem import Part

COMPARED = 300
"""Latents that are compared, besides as many as are asked for."""
_SHARE, _LEAST = 8, 32
"""One of so many lists is searched, and no fewer than the second number."""
_FURTHEST = 2**62
"""Offset in a file beyond which there is none."""


@dataclass(frozen=True, eq=False)
class Nearby:
    """Result of :func:`approximate_neighbours`.

    Attributes:
        neighbours: the faces, nearest first.
        compared: number of latents that were read.
        faces: number of faces in the index.
    """

    neighbours: Neighbours
    compared: int
    faces: int


def approximate_neighbours(
    snapshot: Snapshot, latent: FloatArray, count: int, index: Index | None = None
) -> Nearby:
    """Find the faces nearest to a latent with the index.

    Distances are exact; nearer faces may be missing, unless all latents were compared.

    Args:
        snapshot: the run.
        latent: [n_styles, style_dim] float32.
        count: number of faces.
        index: of this snapshot, as :func:`open_index` returns it; opened here when None.

    Raises:
        SpecError: there is no index of these rows, faiss is not installed, or the latent has
            another shape.
        FatalError: a file is missing or damaged.
    """
    index = index or open_index(snapshot)
    check_query(index.record.shape, latent, None)
    rows = index.candidates(latent, COMPARED + count)
    off = _read(snapshot, index.record, rows) - latent.reshape(-1)
    squares = np.einsum("ij,ij->i", off, off)
    # Of equal distances the earlier row comes first, as in the exhaustive search.
    best = np.lexsort((rows["row"], rows["file"], squares))[:count]
    found = Found(
        np.sqrt(squares[best] / latent.shape[0]),
        rows["file"][best].astype(np.int64),
        rows["row"][best].astype(np.int64),
    )
    names = [name for name, _ in index.record.files]
    return Nearby(neighbours_of(snapshot, names, found), len(rows), index.faces)


@dataclass(eq=False)
class Index:
    """An open index, which keeps the lists that it has read.

    Attributes:
        snapshot: the output.
        record: the record of the index.
        quantizer: what was trained.
        segments: the files of codes.
        present: lists that were read.
    """

    snapshot: Snapshot
    record: IndexRecord
    quantizer: Quantizer
    segments: list[Segment]
    present: set[int] = field(default_factory=set)
    _rows: list[Rows] = field(default_factory=list)

    @property
    def faces(self) -> int:
        """Number of faces."""
        return sum(each.rows for each in self.record.segments)

    def candidates(self, latent: FloatArray, count: int) -> Rows:
        """Rows of at most ``count`` faces whose codes are nearest to a latent."""
        scan = self.quantizer.scan
        point = self.quantizer.coordinates(latent.reshape(1, -1))
        searched = min(max(scan.nlist // _SHARE, _LEAST), scan.nlist)
        lists = scan.quantizer.search(point, searched)[1]
        self._fetch(scan, lists[0])
        scan.nprobe = lists.shape[1]
        ids = scan.search(point, count)[1][0]
        ids = ids[ids >= 0]
        starts = np.cumsum([0, *map(len, self._rows)])
        places = np.searchsorted(starts, ids, side="right") - 1
        return np.array(
            [self._rows[place][at - starts[place]] for place, at in zip(places, ids, strict=True)],
            self._rows[0].dtype if self._rows else None,
        )

    def _fetch(self, scan: Any, lists: IntArray) -> None:
        """Read lists that were not read before."""
        import faiss

        missing = [number for number in lists.tolist() if number not in self.present]
        wanted = [
            (segment, number, part)
            for segment in self.segments
            for number, part in segment.parts(missing).items()
        ]
        storage = self.snapshot.storage
        try:
            found = storage.read_parts([part for _, _, part in wanted])
            read = [
                (number, segment.rows(number, data))
                for (segment, number, _), data in zip(wanted, found, strict=True)
            ]
        except (FileNotFoundError, ValueError) as error:
            raise damaged(storage) from error
        for number, rows in read:
            ids = np.arange(scan.ntotal, scan.ntotal + len(rows))
            codes = np.ascontiguousarray(rows["code"])
            scan.invlists.add_entries(number, len(rows), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
            scan.ntotal += len(rows)
            self._rows.append(rows)
        self.present.update(missing)


def open_index(snapshot: Snapshot) -> Index:
    """Open the index of an output, reading its lists when they are needed.

    Raises:
        SpecError: there is none, it is one of other rows, or faiss is not installed.
        DamagedError: its files are damaged.
    """
    require("faiss", "faiss", "--approximate")
    storage = snapshot.storage
    record = read_record(storage)
    if not record.is_of(snapshot):
        raise SpecError(f"the index of {storage.uri} is one of other rows; {remedy(storage)} again")
    quantizer = read_quantizer(storage, record)
    return Index(snapshot, record, quantizer, read_segments(storage, record, quantizer))


def _read(snapshot: Snapshot, record: IndexRecord, rows: Rows) -> FloatArray:
    """Read the latents [n, size] of some rows."""
    size = record.shape[0] * record.shape[1]
    latents = np.empty((len(rows), size), np.float32)
    counts = {file.name: file.rows for file in snapshot.files(LATENTS)}
    try:
        names = [record.files[number][0] for number in rows["file"]]
        if any(row >= counts[name] for row, name in zip(rows["row"], names, strict=True)):
            raise ValueError("row")
        if rows["offset"].max(initial=0) > _FURTHEST:
            raise ValueError("offset")
        direct = np.flatnonzero(rows["offset"])
        parts = [Part(names[at], int(rows["offset"][at]), 4 * size) for at in direct]
        for at, data in zip(direct, snapshot.storage.read_parts(parts), strict=True):
            latents[at] = np.frombuffer(data, np.float32)
    except (FileNotFoundError, ValueError, IndexError) as error:
        raise damaged(snapshot.storage) from error
    others = np.flatnonzero(rows["offset"] == 0)
    others = others[np.argsort(rows["row"][others], kind="stable")]
    for name in dict.fromkeys(names[at] for at in others):
        mine = np.array([at for at in others if names[at] == name])
        with open_latents(snapshot.out, name) as file:
            found = np.empty((len(mine), size), np.float32)
            file.read_into(rows["row"][mine].astype(np.int64), found)
            latents[mine] = found
    return latents
