"""``restyle repair``: an output is brought back to where a run can complete it.

What is damaged, doubled or belongs to nothing is set aside: moved into the output's folder
``_set-aside``, from where a person may take it back or delete it. Rows that are sound stay; the
units of the others have no entry any more, so that the next run does them again. Nothing is
deleted, and what does not carry this project's mark is left where it is.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from restyle.core.errors import DamagedError, FatalError
from restyle.pipeline.accounting.marker import MARKER, marked
from restyle.pipeline.accounting.operation import Operation, operations
from restyle.pipeline.accounting.proof import Proof
from restyle.pipeline.accounting.run_record import RunRecord, read_run, read_runs
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
"""The folder in an output that takes what repair moves."""

Bound = tuple[Operation[Any], Settings]
"""An operation, and settings of its kind."""


@dataclass
class Repaired:
    """What :func:`repair` did, or would do.

    Attributes:
        done: a line for each change.
        left: a line for each file that is not touched, because nothing says that it is ours.
        folder: where things are set aside, fit to be shown.
    """

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    folder: str = ""


def repair(out: str, *, apply: bool, listener: Listener | None = None) -> Repaired:
    """Set aside what keeps an output from being verified and continued.

    Reads every file, as :func:`~restyle.pipeline.accounting.verify.verify` does. May be killed at
    any moment and called again.

    Args:
        out: a path or any fsspec URI.
        apply: do it; otherwise only find out what would be done.
        listener: is told when another driver is waited for.

    Raises:
        SpecError: a run is at work on the output.
        FatalError: the settings are lost and no record has them, or something cannot be read.
    """
    storage = open_storage(out)
    if not apply:
        return _Repair(Rehearsal(storage)).run()
    with driver_lock(storage, listener or Listener()):
        return _Repair(storage).run()


class _Repair:
    """One repair; its methods are called in the order in which they stand."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        self._folder = f"{SET_ASIDE}/{stamp}"
        self._repaired = Repaired(folder=storage.shown(self._folder))

    def run(self) -> Repaired:
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
        """Find the settings that the rows were made with, or None where there are no rows."""
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
        """Nothing that can be read depends on the settings; entries that cannot be are useless."""
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
        """Keep plans that can be read, in their order, that plan nothing twice and leave no gap."""
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
        """Give plans new names where their units were numbered in another order."""
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
        """Keep entries whose rows are all there; of several that hold a unit, the latest pack."""
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
                self._drop(files, f"unit {min(units & held)} stands in a later entry, too")
            else:
                kept.append(files)
                held |= units
        return kept

    def _require_answer(self, files: FileSet) -> None:
        """Make sure that files are damaged, and not kept from us.

        Raises:
            FatalError, TransientError: a file cannot be read, and may be as it should be.
        """
        for file in files.files:
            with contextlib.suppress(FileNotFoundError, DamagedError):
                self._storage.read(file.name)

    def _in_place(self, name: str) -> FileSet | None:
        """An entry that can be read; where it stands in another's place, it is put into its own."""
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
        """Set an entry aside, and then its files, so that no file is named that is not there."""
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
    """Why a plan cannot be kept beside those before it; they are added to when it can be."""
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
    """The entries that can be read."""
    for name in ledger.entry_names(storage):
        with contextlib.suppress(DamagedError):
            yield ledger.read_entry(storage, name)


def _recorded(storage: Storage) -> list[Bound]:
    """Settings that records of runs, and the files of rows, say they were made with."""
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
                settings = json.loads(metadata.get(b"restyle.settings", b"null"))
                found += _parsed([(operation.name, settings)])
    return found


def _parsed(records: Iterable[tuple[str, object]]) -> Iterator[Bound]:
    """Those records of an operation's settings that can be understood."""
    known = operations()
    for name, settings in records:
        with contextlib.suppress(KeyError, ValidationError):
            yield known[name], known[name].settings_type.model_validate(settings)


def _reason(error: Exception) -> str:
    """What an error says is wrong, without what to do about it, which is being done."""
    return str(error).rpartition("; ")[0] or str(error)
