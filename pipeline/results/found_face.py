"""Finding one face of an output by name, in the manifest without scanning latents."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from restyle.core.errors import SpecError
from restyle.core.shown_text import recorded
from restyle.pipeline.ledger.manifest import PlanFile, damaged, read_plans
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.revisions import newest_revisions
from restyle.pipeline.ledger.source_names import NO_MATCH, source_ranks
from restyle.pipeline.results.face_rows import FaceRows, UnitFaces
from restyle.pipeline.storage.filesystem import Storage

_SHOWN = 5
_COLUMNS = ["unit", "image_id", "revision", "source"]


@dataclass(frozen=True, slots=True)
class _Input:
    """An input that matches the search."""

    unit: str
    image_id: str
    revision: int
    source: str


def find_face(out: str, text: str) -> FaceRows:
    """Find the row of one face.

    Args:
        out: the output, a path or any fsspec URI.
        text: the ``source``, its last part, or a pattern of either with ``*`` and ``?``; or the
            ``image_id``. A suffix ``#1`` selects the face with this number; the default is 0, the
            largest. Numbers are those of the column ``face`` and of the pages.

    Raises:
        SpecError: there is no such face, or several; the message names some.
        FatalError: a file is damaged.
    """
    search, found, face = _found(out, text)
    return search.row(found, face)


def find_weights(out: str, text: str) -> bytes | None:
    """Weights of the generator that was tuned for a face.

    Args:
        out: as for :func:`find_face`.
        text: likewise.

    Returns:
        As of :func:`restyle.pipeline.results.face_rows.tuned_weights`.

    Raises:
        SpecError: as for :func:`find_face`.
        FatalError: a file is damaged.
    """
    search, found, face = _found(out, text)
    return search.weights(found, face)


def _found(out: str, text: str) -> tuple[_Search, _Input, int]:
    """The search, the input that it found, and the number of the face."""
    search = _Search(out)
    named, mark, number = text.rpartition("#")
    found, face = search.best(text, 0), 0
    # A name may also end with # and a number.
    if not found and mark and re.fullmatch(r"\d{1,4}", number):
        face = int(number)
        found = search.best(named, face)
    if not found:
        raise SpecError(f"{out} has no face {text!r}; give a photograph's name, or * and its end")
    if len(found) > 1:
        shown = ", ".join(sorted(each.source for each in found[:_SHOWN]))
        more = " and others" if len(found) > _SHOWN else ""
        raise SpecError(f"{text!r} may be any of {shown}{more}; name one")
    return search, found[0], face


class _Search:
    """Searches the manifest of an output, and then the matching units.

    Args:
        out: a path or any fsspec URI.
    """

    def __init__(self, out: str) -> None:
        output = Output.at(out)
        # The entries before the manifest, which only grows while a run is at work.
        self._done, self._manifest = output.entries.units, output.manifest
        self._newest = newest_revisions(self._manifest, self._done)
        self._faces = UnitFaces(out)

    def best(self, name: str, face: int) -> list[_Input]:
        """Best matches of a name with a face of this number, limited to a few.

        Matches of the whole name precede matches of its last part, and these precede patterns.
        """
        by_rank: dict[int, list[_Input]] = {}
        for rank, each in self._matching(name):
            by_rank.setdefault(rank, []).append(each)
        for rank in sorted(by_rank):
            with_face = (each for each in by_rank[rank] if self._has(each, face))
            found = list(itertools.islice(with_face, _SHOWN + 1))
            if found:
                return found
        return []

    def row(self, found: _Input, face: int) -> FaceRows:
        """The row of one face."""
        rows = self._faces.read(found.unit, {(found.image_id, found.revision)})
        return rows.take([number for number, key in enumerate(rows.keys) if key[2] == face])

    def weights(self, found: _Input, face: int) -> bytes | None:
        """Weights of the generator that was tuned for one face."""
        return self._faces.weights(found.unit, (found.image_id, found.revision, face))

    def _matching(self, name: str) -> Iterator[tuple[int, _Input]]:
        storage = self._manifest.storage
        for file in read_plans(storage, self._manifest.plans):
            table = _read(storage, file)
            ranks = _ranks(table, name)
            rows = np.flatnonzero(ranks < NO_MATCH)
            for rank, row in zip(ranks[rows], table.take(rows).to_pylist(), strict=True):
                each = _Input(**row)
                if each.unit in self._done and self._stands(each):
                    yield int(rank), each

    def _stands(self, each: _Input) -> bool:
        return self._newest.get(each.image_id, each.revision) == each.revision

    def _has(self, each: _Input, face: int) -> bool:
        return (each.image_id, each.revision, face) in self._faces.keys(each.unit)


def _ranks(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """Rank of each input's match, 1 for the best; :data:`NO_MATCH` for no match."""
    ranks = source_ranks(table.column("source"), name)
    ranks[np.asarray(pc.equal(table.column("image_id"), recorded(name)))] = 1
    return ranks


def _read(storage: Storage, file: PlanFile) -> pa.Table:
    try:
        return file.parquet.read(columns=_COLUMNS, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise damaged(storage, file.name, error) from error
