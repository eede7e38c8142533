"""``restyle repair``: make a damaged output ready for a run that completes it.

Repair sets aside damaged, duplicate and unowned files: it moves them into the output's folder
``_set-aside``, from which the user can restore or delete them. Sound rows stay. Units whose entry
was set aside become pending, so that the next run processes them again. Repair deletes nothing,
and does not touch files whose metadata does not identify them as restyle's.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from restyle.core.errors import DamagedError, FatalError, SpecError
from restyle.core.files import parse_json
from restyle.pipeline.accounting.marker import MARKER, marked
from restyle.pipeline.accounting.operation import Operation, operations
from restyle.pipeline.accounting.proof import Proof
from restyle.pipeline.accounting.run_record import NAME, RunRecord, read_run, read_runs
from restyle.pipeline.forgetting.tombstone import check_complete
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.entries import FileSet
from restyle.pipeline.ledger.manifest import (
    PlanFile,
    images_of,
    open_plan,
    plan_name,
    plan_names,
    unit_number,
)
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.ledger.part_names import dataset_of
from restyle.pipeline.ledger.revisions import is_marked
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import Storage, open_storage
from restyle.pipeline.storage.lock import driver_lock
from restyle.pipeline.storage.rehearsal import Rehearsal

SET_ASIDE = "_set-aside"
"""Folder of an output that receives the files set aside."""

Bound = tuple[Operation[Any], Settings]
"""An operation and its settings."""


@dataclass
class Repaired:
    """Result of :func:`repair`: the changes made, or to be made.

    Attributes:
        done: One line per change.
        left: One line per file left in place because its metadata does not name restyle.
        folder: Path or URI of the folder for files set aside, without credentials.
    """

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    folder: str = ""


def repair(out: str, *, apply: bool, listener: Listener | None = None) -> Repaired:
    """Set aside the files that prevent an output from being verified and continued.

    Reads every file, as :func:`~restyle.pipeline.accounting.verify.verify` does. Safe to kill at
    any moment and to call again.

    Args:
        out: the output, a path or any fsspec URI.
        apply: make the changes; if false, only report them.
        listener: receives a note while the lock of another driver is awaited.

    Raises:
        SpecError: there is no output, or another run is using it.
        FatalError: the settings are lost and no record has them, or a file cannot be read.
    """
    storage = open_storage(out)
    if not storage.sizes(ledger.FOLDER) and NAME not in storage.sizes(""):
        raise SpecError(
            f"{storage.uri} holds no output of restyle (it has no {ledger.FOLDER}); correct OUT"
        )
    if not apply:
        return _Repair(Rehearsal(storage)).run()
    with driver_lock(storage, listener or Listener()):
        return _Repair(storage).run()


class _Repair:
    """One repair; :meth:`run` calls the other methods."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        self._folder = f"{SET_ASIDE}/{stamp}"
        self._repaired = Repaired(folder=storage.shown(self._folder))

    def run(self) -> Repaired:
        check_complete(self._storage, self._storage.sizes(ledger.FOLDER))
        bound = self._settings()
        if bound is not None or plan_names(self._storage):
            self._plans(is_ordered=bound is None or bound[0].is_revised)
        if bound is not None:
            operation, settings = bound
            done = {unit.name for plan in _plans(self._storage) for unit in plan.units}
            proof = operation.proof(self._storage, settings, done)
            self._links(proof.datasets)
            kept = self._entries(proof)
            self._strays(proof, kept)
        return self._repaired

    def _settings(self) -> Bound | None:
        """Restore the settings that most entries name; None if there are no usable settings."""
        found = {
            operation.settings_file: (operation, self._parsed_settings(operation))
            for operation in operations().values()
        }
        present = [
            (operation, settings) for operation, settings in found.values() if settings is not None
        ]
        wanted = Counter(
            record.fingerprint for files in _entries(self._storage) for record in files.units
        )
        if not wanted:
            return self._settings_without_rows(present)
        candidates = [*present, *_recorded(self._storage)]
        best = max(candidates, key=lambda each: wanted[each[1].fingerprint], default=None)
        if best is None or (not wanted[best[1].fingerprint] and not present):
            raise FatalError(
                f"the settings of {self._storage.uri} are lost, and neither run.json nor another "
                "record has them; restore them, or choose another output"
            )
        for operation, settings in present:
            if (operation, settings) != best:
                reason = "holds other settings than the rows were made with"
                self._set_aside(operation.settings_file, reason)
        if best not in present:
            best[0].write_settings(self._storage, best[1])
            self._say(best[0].settings_file, "is written again, from a record of the same settings")
        return best

    def _settings_without_rows(self, present: Sequence[Bound]) -> Bound | None:
        """Set aside unreadable entries; keep the settings only if one operation has some."""
        for name in ledger.entry_names(self._storage):
            self._set_aside(name, "cannot be read")
        if len(present) == 1:
            return present[0]
        kinds = " and of ".join(operation.holds for operation, _ in present)
        for operation, _ in present:
            reason = f"there are settings of {kinds}, and no rows"
            self._set_aside(operation.settings_file, reason)
        return None

    def _parsed_settings(self, operation: Operation[Any]) -> Settings | None:
        try:
            return operation.read_settings(self._storage)
        except DamagedError as error:
            self._set_aside(operation.settings_file, _reason(error))
            return None

    def _plans(self, *, is_ordered: bool) -> None:
        """Keep readable plans that plan no input twice and skip no revision; set others aside."""
        plans: list[PlanFile] = []
        for name in plan_names(self._storage):
            try:
                plan = open_plan(self._storage, name)
                for unit in plan.units:
                    images_of(self._storage, plan, unit.group)
                plans.append(plan)
            except DamagedError as error:
                self._set_aside(name, _reason(error))
        if is_ordered:
            plans = self._in_order(plans)
        units: set[str] = set()
        revisions: dict[str, int] = {}
        for plan in plans:
            problem = _plan_problem(self._storage, plan, units, revisions, is_ordered=is_ordered)
            if problem:
                self._set_aside(plan.name, problem)

    def _in_order(self, plans: list[PlanFile]) -> list[PlanFile]:
        """Rename plans whose order differs from the running numbers of their units."""
        wanted = sorted(plans, key=lambda plan: min(unit_number(u.name) for u in plan.units))
        numbers = [min(unit_number(unit.name) for unit in plan.units) for plan in wanted]
        if wanted == plans or len(set(numbers)) < len(numbers):
            return plans
        for plan in wanted:
            name = plan_name(plan_names(self._storage))
            self._storage.write(name, self._storage.read(plan.name))
            self._say(name, f"is {plan.name}, in the order in which the units were planned")
        for plan in plans:
            self._set_aside(plan.name, "is out of order")
        return [open_plan(self._storage, name) for name in plan_names(self._storage)]

    def _links(self, datasets: Sequence[str]) -> None:
        for dataset in datasets:
            if self._storage.is_link(dataset):
                self._set_aside(dataset, "is a link, which is not followed")

    def _entries(self, proof: Proof) -> list[FileSet]:
        """Keep sound entries; of several with the same unit, keep the latest pack."""
        if MARKER in self._storage.sizes(ledger.FOLDER):
            try:
                marked(self._storage, proof.datasets)
            except DamagedError as error:
                self._set_aside(MARKER, _reason(error))
        sound: list[FileSet] = []
        for name in ledger.entry_names(self._storage):
            files = self._in_place(name)
            if files is None:
                continue
            problems = proof.check(files).problems
            problems += [f"unit {unit} is in no plan" for unit in proof.unplanned(files)]
            if problems:
                self._require_answer(files)
                self._drop(files, problems[0])
            else:
                sound.append(files)
        kept: list[FileSet] = []
        held: set[str] = set()
        for files in sorted(sound, key=lambda files: (-files.generation, files.pack)):
            units = {record.unit for record in files.units}
            if units & held:
                self._drop(files, f"unit {min(units & held)} is in a later entry, too")
            else:
                kept.append(files)
                held |= units
        return kept

    def _require_answer(self, files: FileSet) -> None:
        """Check that files are damaged or missing, rather than temporarily unreadable.

        Raises:
            FatalError, TransientError: a file cannot be read and may be intact.
        """
        for file in files.files:
            with contextlib.suppress(FileNotFoundError, DamagedError):
                self._storage.read(file.name)

    def _in_place(self, name: str) -> FileSet | None:
        """Read an entry; move a valid one that is stored under another's name to its own."""
        try:
            return ledger.read_entry(self._storage, name)
        except DamagedError as error:
            reason = _reason(error)
        moved = ledger.misplaced(self._storage, name)
        self._set_aside(name, reason)
        if moved is None or ledger.entry_name(moved) in ledger.entry_names(self._storage):
            return None
        ledger.replace(self._storage, moved)
        self._say(ledger.entry_name(moved), "is written again, under its own name")
        return moved

    def _drop(self, files: FileSet, reason: str) -> None:
        """Set an entry aside before its files, so that no entry names a missing file."""
        self._set_aside(ledger.entry_name(files), reason)
        for file in files.files:
            if file.name in self._storage.sizes(dataset_of(file.name)):
                self._set_aside(file.name, f"was a file of {files.name}")

    def _strays(self, proof: Proof, kept: Sequence[FileSet]) -> None:
        named = {file.name for files in kept for file in files.files}
        done = {record.unit for files in kept for record in files.units}
        named |= proof.pending_files(done)
        for dataset in proof.datasets:
            for name in self._storage.sizes(dataset):
                if self._storage.is_link(name):
                    self._set_aside(name, "is a link, which is not followed")
                elif name not in named and is_marked(self._storage, name):
                    self._set_aside(name, "belongs to no unit")
                elif name not in named:
                    self._repaired.left.append(
                        f"{self._storage.shown(name)} belongs to no unit, and does not say that "
                        "restyle wrote it; move it elsewhere yourself"
                    )

    def _set_aside(self, name: str, reason: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._storage.move(name, f"{self._folder}/{name}")
            self._repaired.done.append(f"{self._storage.shown(name)} is set aside: {reason}")

    def _say(self, name: str, what: str) -> None:
        self._repaired.done.append(f"{self._storage.shown(name)} {what}")


def _plan_problem(
    storage: Storage,
    plan: PlanFile,
    units: set[str],
    revisions: dict[str, int],
    *,
    is_ordered: bool,
) -> str:
    """Return why a plan conflicts with earlier ones; if empty, add it to units and revisions."""
    if any(unit.name in units for unit in plan.units):
        return "plans units that another plan holds"
    images = [image for unit in plan.units for image in images_of(storage, plan, unit.group)]
    added: dict[str, int] = {}
    for image in images:
        key = image.image_id if is_ordered else f"{image.image_id}/{image.revision}"
        before = added.get(key, revisions.get(key, 0))
        if image.revision != before + 1 if is_ordered else before:
            return "plans inputs again that are planned already, or skips a revision"
        added[key] = image.revision
    units.update(unit.name for unit in plan.units)
    revisions.update(added)
    return ""


def _plans(storage: Storage) -> Iterator[PlanFile]:
    for name in plan_names(storage):
        yield open_plan(storage, name)


def _entries(storage: Storage) -> Iterator[FileSet]:
    """Yield the readable entries."""
    for name in ledger.entry_names(storage):
        with contextlib.suppress(DamagedError):
            yield ledger.read_entry(storage, name)


def _recorded(storage: Storage) -> list[Bound]:
    """Collect the settings stored in run records and in the metadata of dataset files."""
    found: list[Bound] = []
    with contextlib.suppress(DamagedError):
        last = read_run(storage)
        runs = [last, *read_runs(storage)]
        found += _parsed(
            (run.operation, run.settings) for run in runs if isinstance(run, RunRecord)
        )
    for operation in operations().values():
        folder = operation.datasets[0]
        for name in storage.sizes(folder) if not storage.is_link(folder) else ():
            with contextlib.suppress(DamagedError, OSError, ValueError, pa.ArrowException):
                metadata = parquet_of(storage.read(name)).schema_arrow.metadata or {}
                settings = parse_json(metadata.get(b"restyle.settings", b"null"))
                found += _parsed([(operation.name, settings)])
    return found


def _parsed(records: Iterable[tuple[str, object]]) -> Iterator[Bound]:
    """Yield the valid settings among pairs of operation name and JSON value."""
    known = operations()
    for name, settings in records:
        with contextlib.suppress(KeyError, ValidationError):
            yield known[name], known[name].settings_type.model_validate(settings)


def _reason(error: Exception) -> str:
    """Return an error message without its advice, because repair follows that advice."""
    return str(error).rpartition("; ")[0] or str(error)
