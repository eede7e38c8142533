"""Base class for the verification of an output, shared by all operations.

A proof compares the manifest with the ledger, the ledger with the files, and the rows of the files
with the manifest. Each operation defines in a subclass which rows it expects; see
:meth:`restyle.pipeline.accounting.operation.Operation.proof`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from restyle.core.errors import DamagedError, FatalError
from restyle.core.shown_text import plural
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
    """Result of checking the files of one ledger entry.

    Attributes:
        problems: Problems found, one line each.
        images: Number of inputs with rows in the files.
        faces: Number of faces in these inputs.
        rejects: Number of rejected inputs.
    """

    problems: list[str] = field(default_factory=list)
    images: int = 0
    faces: int = 0
    rejects: int = 0


class Proof(ABC):
    """Verifies the outputs of one operation.

    Args:
        storage: the output.
        fingerprint: the fingerprint of its settings.
    """

    datasets: tuple[str, ...]
    """Folders that hold the output's Parquet files."""

    keys: tuple[str, ...]
    """Columns compared with the manifest; a dataset need not have all of them."""

    def __init__(self, storage: Storage, fingerprint: str) -> None:
        self.storage = storage
        self.fingerprint = fingerprint
        self.manifest = Manifest.read(storage)
        self._units: dict[str, UnitRef] = {unit.name: unit for unit in self.manifest.units}
        self._plans = PlanReader(storage)

    @abstractmethod
    def schema(self, dataset: str, found: pa.Schema) -> pa.Schema:
        """Return the expected schema of a file.

        Args:
            dataset: the dataset of the file.
            found: the actual schema, which gives the shape of the latents.
        """

    @abstractmethod
    def manifest_problems(self) -> Iterator[str]:
        """Yield a line for each contradiction within the manifest."""

    @abstractmethod
    def count(self, files: FileSet, units: Sequence[Unit], tables: Tables) -> SetFindings:
        """Compare the rows of units with the manifest, and count them.

        Args:
            files: the ledger entry.
            units: the planned units of the entry, with their inputs.
            tables: key columns of the entry's files, by dataset.
        """

    def verification(self, entries: Entries) -> Verification:
        """Read and check every file of the output.

        Memory holds one file at a time, plus the key columns of one unit or pack.

        Args:
            entries: the ledger, which must have been read before the manifest.

        Raises:
            FatalError: an entry is damaged, or a file cannot be read.
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
        """Return the names of the files that pending units will write."""
        return {
            file_name(dataset, name, self.fingerprint)
            for name in self._units
            if name not in done
            for dataset in self.datasets
        }

    def check(self, files: FileSet) -> SetFindings:
        """Check the files of one entry: of a unit, or of all units of a pack together."""
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
        """Return the names of the entry's units that the manifest does not contain."""
        return [record.unit for record in files.units if record.unit not in self._units]

    def require(self, files: FileSet) -> None:
        """Check that an entry is sound before other copies of its rows are removed.

        Raises:
            FatalError: the entry has a problem.
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
            f"{plural(len(entries.outdated), 'unit')} and {plural(len(entries.replaced), 'pack')} "
            "were merged by a "
            "compaction that was stopped before it removed them, so readers of the folders see "
            "rows twice; run restyle compact, or any run, to finish"
        )
