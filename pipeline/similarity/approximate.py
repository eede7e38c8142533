"""Nearest neighbours by the index, confirmed by the latents of the best candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from restyle.pipeline.results.forms.selected_rows import SelectedRows
from restyle.pipeline.results.latent_file import IntArray
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.similar import Found, Neighbours, check_query, neighbours_of
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.similarity.index import open_index
from restyle.pipeline.similarity.sketch import lower_bounds

MOST_READ = 300
"""Latents that are compared at most, besides as many as are asked for."""
_READ_AT_ONCE = 100

_SLACK = 1e-5
"""Rounding of a bound that is allowed for, relative to the lengths that it is a difference of."""


@dataclass(frozen=True, eq=False)
class Nearby:
    """Result of :func:`approximate_neighbours`.

    Attributes:
        neighbours: the faces, nearest first.
        is_proven: whether no other face can be nearer.
        compared: number of latents that were read.
    """

    neighbours: Neighbours
    is_proven: bool
    compared: int


def approximate_neighbours(
    snapshot: Snapshot, latent: FloatArray, count: int, most_read: int = MOST_READ
) -> Nearby:
    """Find the faces nearest to a latent with the index.

    Latents are read in the order of their bounds, until the bound of the next one rules out all
    others, which proves the answer, or until enough were read.

    Args:
        snapshot: the run.
        latent: [n_styles, style_dim] float32.
        count: number of faces.
        most_read: latents to read at most, besides ``count``.

    Raises:
        SpecError: there is no index of these rows, or the latent has another shape.
        FatalError: a file is missing or damaged.
    """
    index = open_index(snapshot)
    check_query(index.rows.shape, latent, None)
    wanted = latent.reshape(-1)
    sketch = index.basis.sketch(wanted[None])[0]
    bounds, length = lower_bounds(index.sketches, sketch), float(np.linalg.norm(sketch))
    most = min(len(bounds), most_read + count)
    order = np.argpartition(bounds, most - 1)[:most]
    order = order[np.argsort(bounds[order], kind="stable")]
    squares = np.empty(0, np.float32)
    beyond = float(np.partition(bounds, most)[most]) if most < len(bounds) else np.inf
    proven = False
    with index.rows as rows:
        while not proven and len(squares) < most:
            part = order[len(squares) : len(squares) + max(count, _READ_AT_ONCE)]
            off = rows.read(part).reshape(len(part), -1) - wanted
            squares = np.concatenate([squares, np.einsum("ij,ij->i", off, off)])
            read = len(squares)
            following = float(bounds[order[read]]) if read < most else beyond
            worst = np.partition(squares, count - 1)[count - 1] if read >= count else np.inf
            proven = _rules_out(following, float(worst), length) or read == len(bounds)
    # Of equal distances the earlier row comes first, as in the exhaustive search.
    best = np.lexsort((order[: len(squares)], squares))[:count]
    distances = np.sqrt(squares[best] / latent.shape[0])
    neighbours = _neighbours(snapshot, index.rows, order[best], distances)
    return Nearby(neighbours, proven, len(squares))


def _rules_out(bound: float, worst: float, length: float) -> bool:
    """Whether a squared bound exceeds a squared distance by more than its rounding."""
    low = math.sqrt(bound)
    return low - _SLACK * (low + length) > math.sqrt(worst)


def _neighbours(
    snapshot: Snapshot, rows: SelectedRows, chosen: IntArray, distances: FloatArray
) -> Neighbours:
    files = np.searchsorted(rows.starts, chosen, side="right") - 1
    places = [
        int(rows.picks[file].rows[row - rows.starts[file]])
        for file, row in zip(files.tolist(), chosen.tolist(), strict=True)
    ]
    found = Found(distances, files, np.array(places, np.int64))
    return neighbours_of(snapshot, [pick.name for pick in rows.picks], found)
