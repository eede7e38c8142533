"""An output: its storage and a snapshot of its ledger.

A run reads the ledger once, after it has acquired the output's lock. From then on only its own
workers change the ledger, and their results name the units that they committed. The driver
therefore updates the snapshot in memory, and reads the ledger again only if a result may be
missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.entries import Entries, FileSet, UnitRecord
from restyle.pipeline.ledger.manifest import (
    Origin,
    PlanFile,
    Unit,
    UnitRef,
    damaged,
    plan_names,
    read_plans,
    write_plan,
)
from restyle.pipeline.storage.filesystem import Storage, open_storage


@dataclass
class Manifest:
    """The units of an output's plans, without their inputs.

    Attributes:
        storage: Storage of the output.
        plans: Names of the plan files, in order.
        units: Units of all plans, in order.
        later: Id and revision of the inputs with a revision above 1, by unit.
    """

    storage: Storage
    plans: list[str]
    units: list[UnitRef] = field(default_factory=list)
    later: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    @classmethod
    def read(cls, storage: Storage) -> Manifest:
        """Read all plans.

        Raises:
            FatalError: a plan is damaged.
        """
        manifest = cls(storage, plan_names(storage))
        for file in read_plans(storage, manifest.plans):
            manifest.take(file)
        return manifest

    def take(self, file: PlanFile) -> None:
        """Add the units of a plan file to this object.

        Raises:
            FatalError: the plan is damaged.
        """
        self.units += file.units
        try:
            is_later = pc.greater(_columns(file, "revision")["revision"], 1)
            if not pc.any(is_later).as_py():
                return
            # A mask avoids Arrow's expression threads, which can abort the interpreter at exit.
            rows = _columns(file, "unit", "image_id", "revision").filter(is_later)
        except (pa.ArrowException, OSError) as error:
            raise damaged(self.storage, file.name, error) from error
        for unit, image_id, revision in zip(*(each.to_pylist() for each in rows), strict=True):
            self.later.setdefault(unit, []).append((image_id, revision))

    def add(self, units: Sequence[Unit], origin: Origin) -> list[UnitRef]:
        """Write a plan, see :func:`~restyle.pipeline.ledger.manifest.write_plan`; add its units."""
        refs = write_plan(self.storage, units, origin, self.plans)
        self.plans.append(refs[0].plan)
        self.units += refs
        for unit in units:
            later = [(each.image_id, each.revision) for each in unit.images if each.revision > 1]
            if later:
                self.later[unit.name] = later
        return refs


class Output:
    """An output, with a snapshot of its ledger that is read on first access.

    Args:
        storage: the storage of the output.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._read: dict[str, FileSet] = {}
        self._listed: dict[str, dict[str, int]] = {}

    @classmethod
    def at(cls, address: str) -> Output:
        """Open the output at a path or any fsspec URI."""
        return cls(open_storage(address))

    @property
    def address(self) -> str:
        """Path or URI of the output."""
        return self.storage.address

    def look(self) -> None:
        """Discard the snapshot, except for the manifest, so that it is read again."""
        for name in ("names", "entries"):
            self.__dict__.pop(name, None)
        self._read.clear()
        self._listed.clear()

    @cached_property
    def names(self) -> list[str]:
        """Names of the files in ``_ledger``, as of the snapshot."""
        return list(self.storage.sizes(ledger.FOLDER))

    @cached_property
    def entries(self) -> Entries:
        """Entries of the ledger, as of the snapshot."""
        return ledger.read_entries(self.storage, self.names)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest. Read it after :attr:`entries`: a concurrent run only adds units to it."""
        return Manifest.read(self.storage)

    def add(self, record: UnitRecord) -> None:
        """Add a unit that a worker has committed to the snapshot."""
        self.entries.single.add(record.unit)
        self._read[record.unit] = FileSet((record,), record.files)
        self._listed.clear()

    def files(self, dataset: str) -> dict[str, int]:
        """Return names and sizes in bytes of a dataset's files; cached until the next commit."""
        if dataset not in self._listed:
            self._listed[dataset] = self.storage.sizes(dataset)
        return self._listed[dataset]

    def sets(self) -> list[FileSet]:
        """Return the content of all entries, packs first.

        Raises:
            FatalError: an entry is damaged.
        """
        packs, single = self.entries.packs, sorted(self.entries.single)
        unread = [name for name in single if name not in self._read]
        self._read.update((files.name, files) for files in ledger.read_single(self.storage, unread))
        return [*map(FileSet.of_pack, packs), *(self._read[name] for name in single)]

    def records(self) -> list[UnitRecord]:
        """Return the entries of all committed units, ordered by name."""
        records = (record for files in self.sets() for record in files.units)
        return sorted(records, key=lambda record: record.unit)


def _columns(file: PlanFile, *names: str) -> pa.Table:
    return file.parquet.read(columns=list(names), use_threads=False)
