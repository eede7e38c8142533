"""Plan edits: the current faces of an inversion that no plan of the edits contains yet.

A unit of edits contains photographs of one unit of the inversion, each with all its faces, and is
named after that unit and a digest of its members. A worker therefore finds the latents with one
lookup in the inversion's ledger, even after a compaction has moved them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.pipeline.ledger.datasets import LATENTS
from restyle.pipeline.ledger.entries import FileSet
from restyle.pipeline.ledger.manifest import (
    PART_UNITS,
    Origin,
    PlanReader,
    Unit,
    members_digest,
)
from restyle.pipeline.ledger.output import Manifest
from restyle.pipeline.ledger.parquet_files import file_of, open_parquet
from restyle.pipeline.planning.planned_inputs import PlannedInputs, read_revisions
from restyle.pipeline.planning.planner import Planned
from restyle.pipeline.results.face_rows import Selection, matching
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.sources.source_image import SourceImage

_MOST_FACES = 64
_MOST_ROWS = 1024
# Number of pixels processed at a time: a few dozen small faces, or a few of a megapixel.
_PIXELS = 8 * 1024 * 1024

Input = tuple[str, int]
"""``image_id`` and ``revision``."""


def faces_together(n_styles: int, edits: int) -> int:
    """Return the maximum number of faces in a unit; a photograph with more forms its own unit.

    This bounds the work that each worker of a killed run loses.

    Args:
        n_styles: number of styles of a latent, which determines the size of the pictures.
        edits: number of edits of each face.
    """
    side = 1 << (n_styles // 2 + 1)
    return max(1, min(_MOST_FACES, _PIXELS // (side * side), _MOST_ROWS // edits))


def inverted_in(unit: str) -> str:
    """Return the name of the inversion's unit from which a unit of edits takes its faces."""
    return unit.rpartition("-")[0]


@dataclass(frozen=True)
class EditPlanner:
    """Adds new photographs to the manifest of an output of edits.

    Attributes:
        snapshot: the inversion.
        planned_inputs: inputs in the manifest of the edits; new units are added here, too.
        most: maximum number of faces in a unit, unless one photograph has more.
        before_first: callback that is called once, before the first file is written.
    """

    snapshot: Snapshot
    planned_inputs: PlannedInputs
    most: int
    before_first: Callable[[], None] = lambda: None

    def plan(self, selection: Selection) -> Planned:
        """Plan the selected faces.

        Returns:
            The result, in which the inputs are photographs; ``listed`` includes those planned
                earlier.

        Raises:
            FatalError: a file of the inversion is damaged, or the manifest cannot be written.
        """
        planned = _planned(self.planned_inputs.manifest)
        units: list[Unit] = []
        result = Planned()
        refs = {ref.name: ref for ref in self.snapshot.output.manifest.units}
        plans = PlanReader(self.snapshot.storage)
        is_asked = matching(self.snapshot, selection.pattern)
        for files in self.snapshot.sets:
            left = None if selection.limit is None else selection.limit - result.listed
            faces = self._asked(files, is_asked, left)
            result.listed += len(faces)
            fresh = {key: count for key, count in faces.items() if _short(key) not in planned}
            for record in files.units if fresh else ():
                units += self._cut(record.unit, plans.read(refs[record.unit]).images, fresh)
            while len(units) >= PART_UNITS:
                self._write(units[:PART_UNITS], result)
                units = units[PART_UNITS:]
        if units:
            self._write(units, result)
        return result

    def _asked(
        self,
        files: FileSet,
        is_asked: Callable[[pa.Table], npt.NDArray[np.bool_]],
        left: int | None,
    ) -> dict[Input, int]:
        """Return the selected inputs of some units, each with its number of faces."""
        named = file_of(files, LATENTS)
        if named is None or left == 0:
            return {}
        names = ["image_id", "revision", "source"]
        with open_parquet(self.snapshot.out, named[0]) as parquet:
            rows = parquet.read(columns=names, use_threads=False)
        rows = rows.filter(self.snapshot.stands(rows))
        rows = rows.filter(pa.array(is_asked(rows)))
        faces = Counter(zip(*(rows.column(name).to_pylist() for name in names[:2]), strict=True))
        return dict(list(faces.items())[:left])

    def _cut(
        self, name: str, images: Sequence[SourceImage], faces: dict[Input, int]
    ) -> Iterator[Unit]:
        """Yield units of the photographs in one unit of the inversion."""
        group: list[SourceImage] = []
        size = 0
        for image in images:
            more = faces.get((image.image_id, image.revision), 0)
            if group and more and size + more > self.most:
                yield _unit(name, group)
                group, size = [], 0
            if more:
                group.append(image)
                size += more
        if group:
            yield _unit(name, group)

    def _write(self, units: Sequence[Unit], result: Planned) -> None:
        if not result.written:
            self.before_first()
        refs = self.planned_inputs.manifest.add(units, Origin(self.snapshot.storage.uri))
        result.units += refs
        result.written.append(refs[0].plan)
        result.new += sum(len(unit.images) for unit in units)


def _unit(inverted: str, images: Sequence[SourceImage]) -> Unit:
    return Unit(f"{inverted}-{members_digest(images, 8)}", tuple(images))


def _planned(manifest: Manifest) -> set[tuple[bytes, int]]:
    ids, revisions = read_revisions(manifest)
    return set(zip(ids.tolist(), revisions.tolist(), strict=True))


def _short(key: Input) -> tuple[bytes, int]:
    # Same form as the ids in numpy arrays, which strip trailing zero bytes as padding.
    return bytes.fromhex(key[0]).rstrip(b"\0"), key[1]
