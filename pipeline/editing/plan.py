"""Planning edits: faces that stand in an inversion and no plan of the edits holds yet.

A unit of edits has photographs of one unit of the inversion, each with all of its faces, and is
named after that unit and a digest of its members. So a worker finds their latents by one look into
the inversion's ledger, wherever a compaction may have put them meanwhile.
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
# About what is in work at a time: a few dozen small faces, or a few of a megapixel.
_PIXELS = 8 * 1024 * 1024

Input = tuple[str, int]
"""``image_id`` and ``revision``."""


def faces_together(n_styles: int, edits: int) -> int:
    """Faces of a unit, unless one photograph has more: what a killed run may lose per worker.

    Args:
        n_styles: of the latents, which says how large their pictures are.
        edits: of each face.
    """
    side = 1 << (n_styles // 2 + 1)
    return max(1, min(_MOST_FACES, _PIXELS // (side * side), _MOST_ROWS // edits))


def inverted_in(unit: str) -> str:
    """The unit of the inversion that a unit of edits takes its faces from."""
    return unit.rpartition("-")[0]


@dataclass(frozen=True)
class EditPlanner:
    """Adds what is new to the manifest of an output of edits.

    Attributes:
        snapshot: the inversion.
        planned_inputs: the manifest of the edits; what is added is added here too.
        most: faces in a unit, unless one photograph has more.
        before_first: is called once, before the first file is written.
    """

    snapshot: Snapshot
    planned_inputs: PlannedInputs
    most: int
    before_first: Callable[[], None] = lambda: None

    def plan(self, selection: Selection) -> Planned:
        """Plan the faces that are asked for.

        Returns:
            What came of it; photographs are its inputs, those planned earlier are listed, too.

        Raises:
            FatalError: a file of the inversion is damaged, or the edits cannot be written.
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
        """The inputs of some units that are asked for, each with the number of its faces."""
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
        """Units of the photographs of one of the inversion's."""
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
    # As numpy has ids, which takes zeros at the end of bytes for padding.
    return bytes.fromhex(key[0]).rstrip(b"\0"), key[1]
