"""Faces of a file of landmarks: the key of each photograph, and the anchors of its crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from restyle.core.errors import SpecError
from restyle.core.faces.anchors import ALL, ANCHORS, CORNERS, FIVE, Anchors, anchors_of, wrong_count

NO_POINTS = -1
"""Number of points of a face whose value is no list of points."""

_FILE = "file://"


@dataclass(frozen=True)
class MarkedFaces:
    """Some faces, in the order of the file.

    Attributes:
        keys: which photograph each belongs to.
        anchors: [N] of :data:`~restyle.core.faces.anchors.ANCHORS`.
        numbers: [N] int64, the number of each face's row or entry in the file, from 1.
        faults: why faces cannot be used, by index: a sentence each.
        unit: what the numbers count: ``row``, ``line`` or ``entry``.
        one_each: whether a key stands for one entry, as in a JSON object.
    """

    keys: Sequence[str]
    anchors: Anchors
    numbers: npt.NDArray[np.int64]
    faults: dict[int, str]
    unit: str = "row"
    one_each: bool = False


def marked(
    keys: Sequence[str | None],
    coordinates: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    *,
    unit: str = "row",
    one_each: bool = False,
) -> MarkedFaces:
    """Reduce the points of N faces to their anchors.

    Args:
        keys: N keys as the file writes them.
        coordinates: [M, 2] x and y of the points of all faces, one face after the other.
        counts: [N] number of points of each face, :data:`NO_POINTS` for a value of another kind.
        numbers: as in :class:`MarkedFaces`.
        unit: as there.
        one_each: as there.

    Raises:
        SpecError: a key is missing.
    """
    missing = next((index for index, key in enumerate(keys) if not key or not key.strip()), None)
    if missing is not None:
        raise SpecError(f"{unit} {numbers[missing]} does not say which photograph it is of")
    anchors = np.zeros(len(keys), ANCHORS)
    faults: dict[int, str] = {}
    lengths = np.maximum(counts, 0)
    starts = np.cumsum(lengths) - lengths
    for count in (CORNERS, FIVE, ALL):
        rows = np.flatnonzero(counts == count)
        points = coordinates[starts[rows][:, None] + np.arange(count)]
        anchors[rows], wrong = anchors_of(points)
        faults |= {int(rows[index]): text for index, text in wrong.items()}
    for row in np.flatnonzero(~np.isin(counts, (CORNERS, FIVE, ALL))):
        count = int(counts[row])
        faults[int(row)] = wrong_count(() if count == NO_POINTS else (count, 2))
    return MarkedFaces([_key(key or "") for key in keys], anchors, numbers, faults, unit, one_each)


def _key(text: str) -> str:
    """Return a key with slashes, as addresses of inputs have."""
    text = text.strip().removeprefix(_FILE)
    if "\\" in text and "/" not in text:
        text = text.replace("\\", "/")
    return text.removeprefix("./")
