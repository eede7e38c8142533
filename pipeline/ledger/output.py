"""An output: where it is, and what its ledger holds.

A run looks at the ledger once, when it has the output's lock. From then on nobody else changes the
ledger, except workers, whose results say what they committed: so the driver keeps the snapshot up
to date in memory, and looks again only where a result may be missing.
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
    """What the plans of an output hold, as far as a driver needs it.

    Attributes:
        storage: the output.
        plans: names of the plans, in order.
        units: of all plans, in order.
        later: by unit, those of its inputs that had been planned before: id and revision.
    """

    storage: Storage
    plans: list[str]
    units: list[UnitRef] = field(default_factory=list)
    later: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    @classmethod
    def read(cls, storage: Storage) -> Manifest:
        """Look through all plans.

        Raises:
            FatalError: a plan is damaged.
        """
        manifest = cls(storage, plan_names(storage))
        for file in read_plans(storage, manifest.plans):
            manifest.take(file)
        return manifest

    def take(self, file: PlanFile) -> None:
        """Take note of what a plan holds.

        Raises:
            FatalError: it is damaged.
        """
        self.units += file.units
        try:
            is_later = pc.greater(_columns(file, "revision")["revision"], 1)
            if not pc.any(is_later).as_py():
                return
            # By a mask: Arrow hands conditions to threads, which outlive the interpreter.
            rows = _columns(file, "unit", "image_id", "revision").filter(is_later)
        except (pa.ArrowException, OSError) as error:
            raise damaged(self.storage, file.name, error) from error
        for unit, image_id, revision in zip(*(each.to_pylist() for each in rows), strict=True):
            self.later.setdefault(unit, []).append((image_id, revision))

    def add(self, units: Sequence[Unit], origin: Origin) -> list[UnitRef]:
        """Write a plan, as :func:`~restyle.pipeline.ledger.manifest.write_plan` does."""
        refs = write_plan(self.storage, units, origin, self.plans)
        self.plans.append(refs[0].plan)
        self.units += refs
        for unit in units:
            later = [(each.image_id, each.revision) for each in unit.images if each.revision > 1]
            if later:
                self.later[unit.name] = later
        return refs


class Output:
    """An output, with a snapshot of its ledger that is taken when it is first asked for.

    Args:
        storage: where it is.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._read: dict[str, FileSet] = {}
        self._listed: dict[str, dict[str, int]] = {}

    @classmethod
    def at(cls, address: str) -> Output:
        """The output at a path or any fsspec URI."""
        return cls(open_storage(address))

    @property
    def address(self) -> str:
        """The path or URI."""
        return self.storage.address

    def look(self) -> None:
        """Forget what was found, except for the manifest, so that it is looked at again."""
        for name in ("names", "entries"):
            self.__dict__.pop(name, None)
        self._read.clear()
        self._listed.clear()

    @cached_property
    def names(self) -> list[str]:
        """The files of ``_ledger`` when it was last looked at."""
        return list(self.storage.sizes(ledger.FOLDER))

    @cached_property
    def entries(self) -> Entries:
        """The entries of the ledger."""
        return ledger.read_entries(self.storage, self.names)

    @cached_property
    def manifest(self) -> Manifest:
        """What is planned. Asked for after the entries: it only grows while a run is at work."""
        return Manifest.read(self.storage)

    def add(self, record: UnitRecord) -> None:
        """Take note of a unit that a worker has committed."""
        self.entries.single.add(record.unit)
        self._read[record.unit] = FileSet((record,), record.files)
        self._listed.clear()

    def files(self, dataset: str) -> dict[str, int]:
        """The files of a dataset and their bytes, listed once as long as nothing is committed."""
        if dataset not in self._listed:
            self._listed[dataset] = self.storage.sizes(dataset)
        return self._listed[dataset]

    def sets(self) -> list[FileSet]:
        """All files that are committed, with their units: packs first.

        Raises:
            FatalError: an entry is damaged.
        """
        packs, single = self.entries.packs, sorted(self.entries.single)
        unread = [name for name in single if name not in self._read]
        self._read.update((files.name, files) for files in ledger.read_single(self.storage, unread))
        return [*map(FileSet.of_pack, packs), *(self._read[name] for name in single)]

    def records(self) -> list[UnitRecord]:
        """The entries of all units that are done, in the order of their names."""
        records = (record for files in self.sets() for record in files.units)
        return sorted(records, key=lambda record: record.unit)


def _columns(file: PlanFile, *names: str) -> pa.Table:
    return file.parquet.read(columns=list(names), use_threads=False)
