"""What an entry of the ledger says: of a unit, of a pack, and of the files that they have."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from restyle.pipeline.ledger.part_names import dataset_of, is_file_of

Count = Annotated[int, Field(ge=0)]
MOST_NOTES = 10
"""Notes that an entry keeps of a unit: they are alike, and an entry is to stay small."""

Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""A part of a file's name."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WrittenFile(_Frozen):
    """One dataset file of a unit.

    Attributes:
        name: relative to the output.
        rows: rows in it.
        size: bytes.
        sha256: checksum of the whole file, in hex.
    """

    # In a dataset's folder, whoever wrote the entry: neither outside, nor in the ledger.
    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*/\w[\w.-]*$")]
    rows: Count
    size: Count
    sha256: str


class MetricSums(_Frozen):
    """Sums of one metric over the faces of a unit, so that means need no dataset to be read.

    Attributes:
        total: sum at each step, over the faces where it is a number.
        count: how many those were, at each step.
    """

    total: tuple[float, ...]
    count: tuple[Count, ...]


class UnitRecord(_Frozen):
    """What is known about a committed unit.

    Attributes:
        format: version of this file.
        unit: name in the manifest.
        fingerprint: of the settings it was run with.
        images: inputs.
        faces: rows in ``latents``.
        rejects: inputs without a latent, by reason.
        files: what was written, none without rows.
        metrics: sums of each metric.
        seconds: wall time by stage.
        superseded: number of inputs with a later revision, as of the last cleanup.
        dropped: rejects among them, whose rows were taken out of ``rejects`` for that.
        notes: what a person should know of how inputs were read, the first few.
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
    superseded: Count = 0
    dropped: Count = 0
    notes: tuple[str, ...] = ()


class PackRecord(_Frozen):
    """What is known about units whose rows were merged into common files.

    Attributes:
        format: version of this file.
        pack: its name, a digest of what it was made of.
        generation: one more than that of any pack it was made of; 1 for a pack of units alone.
        units: as they were committed, without files.
        files: at most one in each dataset.
    """

    format: Literal[1] = 1
    pack: Name
    generation: Annotated[int, Field(ge=1)]
    units: Annotated[tuple[UnitRecord, ...], Field(min_length=1)]
    files: tuple[WrittenFile, ...]


@dataclass(frozen=True)
class FileSet:
    """Units whose rows stand in the same files: a unit by itself, or those of a pack.

    Attributes:
        units: in the order of their names.
        files: at most one in each dataset.
        pack: name of the pack; empty for a unit by itself.
        generation: of the pack; 0 for a unit by itself.
    """

    units: tuple[UnitRecord, ...]
    files: tuple[WrittenFile, ...]
    pack: str = ""
    generation: int = 0

    @property
    def faces(self) -> int:
        """Rows in ``latents``."""
        return sum(unit.faces for unit in self.units)

    @property
    def name(self) -> str:
        """What their files are named after."""
        return f"pack-{self.pack}" if self.pack else self.units[0].unit

    @classmethod
    def of_pack(cls, pack: PackRecord) -> FileSet:
        """The units of a pack."""
        return cls(pack.units, pack.files, pack.pack, pack.generation)

    @property
    def fingerprint(self) -> str:
        """Of the settings that the units were run with; of the first, should they differ."""
        return self.units[0].fingerprint

    def problem(self) -> str:
        """What contradicts itself in the entry; empty when nothing does.

        Every file's name follows from the unit or pack that wrote it, so that no file can belong
        to two entries.
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
