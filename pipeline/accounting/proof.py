"""The proof of an output, as far as those of all kinds are alike.

What was planned is compared with the ledger, the ledger with the files, and the rows of the files
with what was planned. What rows are to be there is said by the kind of output: see
:mod:`restyle.pipeline.accounting.verify` for inversions, :mod:`restyle.pipeline.editing.verify` for
edits.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from restyle.core.errors import DamagedError, FatalError
from restyle.pipeline.accounting.findings import (
    Verification,
    read_keys,
    stray_problems,
    unit_list_problems,
)
from restyle.pipeline.accounting.marker import marked
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.entries import Entries, FileSet
from restyle.pipeline.ledger.manifest import PlanReader, Unit, UnitRef, named_after
from restyle.pipeline.ledger.output import Manifest
from restyle.pipeline.ledger.part_names import dataset_of, file_name
from restyle.pipeline.storage.filesystem import Storage

Tables = dict[str, pa.Table]
"""Key columns by dataset."""


@dataclass
class SetFindings:
    """What the files of one entry hold.

    Attributes:
        problems: one line each.
        images: inputs that stand in them.
        faces: faces of these.
        rejects: inputs without a face.
    """

    problems: list[str] = field(default_factory=list)
    images: int = 0
    faces: int = 0
    rejects: int = 0


class Proof(ABC):
    """Checks an output of one kind.

    Args:
        storage: the output.
        fingerprint: of its settings.
    """

    datasets: tuple[str, ...]
    """The folders that hold its rows."""

    keys: tuple[str, ...]
    """The columns that are compared, where a dataset has them."""

    def __init__(self, storage: Storage, fingerprint: str) -> None:
        self.storage = storage
        self.fingerprint = fingerprint
        self.manifest = Manifest.read(storage)
        self._units: dict[str, UnitRef] = {unit.name: unit for unit in self.manifest.units}
        self._plans = PlanReader(storage)

    @abstractmethod
    def schema(self, dataset: str, found: pa.Schema) -> pa.Schema:
        """What the schema of a file should be, given what it is."""

    @abstractmethod
    def manifest_problems(self) -> Iterator[str]:
        """What contradicts itself in the manifest as a whole."""

    @abstractmethod
    def count(self, files: FileSet, units: Sequence[Unit], tables: Tables) -> SetFindings:
        """Compare the rows of some units with what was planned, and count them."""

    def verification(self, entries: Entries) -> Verification:
        """Read every file; one is in memory at a time, and the keys of one unit or pack.

        Args:
            entries: the ledger, which must have been looked through before the manifest was.

        Raises:
            FatalError: an entry is damaged, or something cannot be read.
        """
        problems = [
            *self.manifest_problems(),
            *unit_list_problems(self.manifest.units, entries.units),
            *_leftover_problems(self.storage, entries, self.datasets),
        ]
        named = self.pending_files(entries.units)
        total, units, size = SetFindings(), 0, 0
        for files in ledger.read_file_sets(self.storage, entries):
            found = self.check(files)
            problems += found.problems
            total.images += found.images
            total.faces += found.faces
            total.rejects += found.rejects
            named.update(file.name for file in files.files)
            units += sum(record.unit in self._units for record in files.units)
            size += sum(file.size for file in files.files)
        problems += stray_problems(self.storage, self.datasets, named)
        return Verification(problems, units, total.images, total.faces, total.rejects, size)

    def pending_files(self, done: set[str]) -> set[str]:
        """Files that units without an entry overwrite when they are run."""
        return {
            file_name(dataset, name, self.fingerprint)
            for name in self._units
            if name not in done
            for dataset in self.datasets
        }

    def check(self, files: FileSet) -> SetFindings:
        """What is wrong with a unit, or with the units of a pack, which are looked at as one."""
        problems = [
            f"unit {record.unit} was run with other settings"
            for record in files.units
            if record.fingerprint != self.fingerprint
        ]
        units = [
            self._plans.read(self._units[record.unit])
            for record in files.units
            if record.unit in self._units
        ]
        problems += [
            f"unit {unit.name} does not hold the inputs that it is named after"
            for unit in units
            if not named_after(unit)
        ]
        tables: Tables = {}
        for file in files.files:
            dataset = dataset_of(file.name)
            if dataset not in self.datasets:
                problems.append(f"{self.storage.shown(file.name)} is in no dataset of this output")
                continue
            expected = functools.partial(self.schema, dataset)
            read = read_keys(self.storage, file, expected, self.keys)
            if isinstance(read, str):
                problems.append(read)
            else:
                tables[dataset] = read
        if len(units) < len(files.units) or len(tables) < len(files.files):
            return SetFindings(problems)
        counted = self.count(files, units, tables)
        what = f"pack {files.pack}" if files.pack else f"unit {files.units[0].unit}"
        counted.problems = problems + [f"{what}: {problem}" for problem in counted.problems]
        return counted

    def unplanned(self, files: FileSet) -> list[str]:
        """Units of an entry that the manifest does not hold."""
        return [record.unit for record in files.units if record.unit not in self._units]

    def require(self, files: FileSet) -> None:
        """Make sure that an entry's rows are all there, before others of them are removed.

        Raises:
            FatalError: they are not.
        """
        problems = self.check(files).problems
        problems += [f"unit {unit} is not in the manifest" for unit in self.unplanned(files)]
        if problems:
            raise FatalError(
                f"nothing was removed, because {ledger.entry_name(files)} is not sound "
                f"({problems[0]}); see `restyle repair {self.storage.uri}`"
            )


def _leftover_problems(
    storage: Storage, entries: Entries, datasets: Sequence[str]
) -> Iterator[str]:
    try:
        marked(storage, datasets)
    except DamagedError as error:
        yield str(error)
    if entries.outdated or entries.replaced:
        yield (
            f"{len(entries.outdated)} units and {len(entries.replaced)} packs were merged by a "
            "compaction that was stopped before it removed them, so readers of the folders see "
            "rows twice; run restyle compact, or any run, to finish"
        )
