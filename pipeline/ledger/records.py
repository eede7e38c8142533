"""Models of the ledger entries: units, packs and their files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from restyle.core.stage_clock import ALIGNMENT
from restyle.pipeline.ledger.part_names import dataset_of, is_file_of

STARVED = "starved"
"""Seconds in which the model had nothing to compute, because no input had passed alignment."""

Count = Annotated[int, Field(ge=0)]
MOST_NOTES = 10
"""Maximum number of notes in a unit's entry, which keeps entries small."""

Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""A string that is safe as part of a file name."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WrittenFile(_Frozen):
    """One dataset file of a unit.

    Attributes:
        name: Path relative to the output.
        rows: Number of rows.
        size: Size in bytes.
        sha256: SHA-256 of the whole file, in hex.
    """

    # Restricts an entry, which may be forged, to files in dataset folders.
    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*/\w[\w.-]*$")]
    rows: Count
    size: Count
    sha256: str


class MetricSums(_Frozen):
    """Sums of one metric over the faces of a unit; means can be computed without the datasets.

    Attributes:
        total: Sum at each step over the faces with a value.
        count: Number of faces with a value at each step.
    """

    total: tuple[float, ...]
    count: tuple[Count, ...]


class UnitRecord(_Frozen):
    """Ledger entry of a committed unit.

    Attributes:
        format: Version of the file format.
        unit: Name of the unit in the manifest.
        fingerprint: Fingerprint of the settings that the unit was run with.
        images: Number of inputs.
        faces: Number of rows in the first dataset, ``latents`` for an inversion.
        rejects: Number of rejected inputs by reason.
        files: Files written, one per dataset with rows.
        metrics: Sums of each metric.
        seconds: Wall time in seconds by stage; of the parts of alignment, seconds summed over its
            processes; and :data:`STARVED`. Earlier versions have stages alone.
        step_seconds: Seconds of computing each step, summed over the faces, without metrics and
            writing; empty where they were not measured, as on a GPU and in earlier versions.
        superseded: Number of inputs with a later committed revision, as of the last cleanup.
        dropped: Number of rejects among them, whose rows the cleanup removed from ``rejects``.
        notes: Remarks for the user on how inputs were read, at most :data:`MOST_NOTES`.
        worsened: For each metric, number of faces with a worse value one step later, after each
            step but the last; empty in entries of earlier versions and of edits.
    """

    format: Literal[1] = 1
    unit: Name
    fingerprint: Name
    images: Count
    faces: Count
    rejects: dict[str, Count]
    files: tuple[WrittenFile, ...]
    metrics: dict[str, MetricSums]
    seconds: dict[str, float]
    step_seconds: tuple[float, ...] = ()
    superseded: Count = 0
    dropped: Count = 0
    notes: tuple[str, ...] = ()
    worsened: dict[str, tuple[Count, ...]] = {}

    @property
    def wall_seconds(self) -> float:
        """Wall time of all stages, one after the other."""
        others = {*ALIGNMENT, STARVED}
        return sum(value for stage, value in self.seconds.items() if stage not in others)


class PackRecord(_Frozen):
    """Ledger entry of a pack: units whose rows were merged into common files.

    Attributes:
        format: Version of the file format.
        pack: Name of the pack, a digest of the merged files.
        generation: One more than the highest generation merged into it; 1 if only units were.
        units: Entries of the units, without files.
        files: Files of the pack, at most one per dataset.
    """

    format: Literal[1] = 1
    pack: Name
    generation: Annotated[int, Field(ge=1)]
    units: Annotated[tuple[UnitRecord, ...], Field(min_length=1)]
    files: tuple[WrittenFile, ...]


@dataclass(frozen=True)
class FileSet:
    """Content of one entry: a single unit or the units of a pack, and their common files.

    Attributes:
        units: Entries of the units, ordered by name.
        files: Files with the units' rows, at most one per dataset.
        pack: Name of the pack; empty for a single unit.
        generation: Generation of the pack; 0 for a single unit.
    """

    units: tuple[UnitRecord, ...]
    files: tuple[WrittenFile, ...]
    pack: str = ""
    generation: int = 0

    @property
    def faces(self) -> int:
        """Number of rows in the first dataset, ``latents`` for an inversion."""
        return sum(unit.faces for unit in self.units)

    @property
    def name(self) -> str:
        """Name of the unit, or ``pack-`` and the name of the pack; part of the file names."""
        return f"pack-{self.pack}" if self.pack else self.units[0].unit

    @classmethod
    def of_pack(cls, pack: PackRecord) -> FileSet:
        """Convert the entry of a pack."""
        return cls(pack.units, pack.files, pack.pack, pack.generation)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the first unit's settings, which all units of a sound entry share."""
        return self.units[0].fingerprint

    def problem(self) -> str:
        """Describe the first contradiction within the entry; empty if there is none.

        A file's name must contain the name of its unit or pack, so that no file can belong to two
        entries.
        """
        twice = [unit for unit, times in Counter(u.unit for u in self.units).items() if times > 1]
        if twice:
            return f"it holds unit {twice[0]} twice"
        datasets = Counter(dataset_of(file.name) for file in self.files)
        if datasets and max(datasets.values()) > 1:
            return f"it has several files in {datasets.most_common(1)[0][0]}"
        for file in self.files:
            if not is_file_of(file.name, self.name):
                return f"it names {file.name}, which is not a file of {self.name}"
        return ""
