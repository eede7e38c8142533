"""The middle of a run: pending units are run, round after round, until none is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from restyle.core.errors import FatalError, RestyleError
from restyle.pipeline.accounting.machine import WorkerInfo
from restyle.pipeline.execution.job import Job, UnitResult, failure
from restyle.pipeline.ledger import attempts
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener, Progress
from restyle.pipeline.storage.lock import DriverLock

Execute = Callable[[Job, Sequence[UnitRef]], Iterator[UnitResult]]
"""Runs units, in any order, and tells what became of them; units may be left out."""

ATTEMPTS = 3
"""Rounds in a row without a single new entry before the run gives up."""

FAILURES = f"{ledger.FOLDER}/failures.txt"
"""What went wrong in units that failed, until the next run."""

RAY_LOG = f"{ledger.FOLDER}/ray.log"
"""What Ray said in the last run that it had messages in."""

# A share of rejects means nothing over a handful of inputs.
_RATE_FROM = 32
_MOST_TOLD = 5
"""Notes on inputs that a run tells its listener."""

_BACK_OFF = (1.0, 4.0)


class Account(Protocol):
    """Is kept up to date while a run goes on.

    Attributes:
        progress: how far it is.
    """

    progress: Progress

    def add_worker(self, worker_info: WorkerInfo) -> None:
        """Add the worker of a unit, unless it is recorded already."""


class Rounds:
    """Runs what is pending.

    Args:
        output: where; what is committed is added to its ledger.
        pending: by name; what is done is taken out.
        account: of the run.
        lock: of this driver.
        listener: is told about progress.
        max_reject_rate: share of rejects at which the run stops.
    """

    def __init__(
        self,
        output: Output,
        pending: dict[str, UnitRef],
        account: Account,
        lock: DriverLock,
        listener: Listener,
        max_reject_rate: float,
    ) -> None:
        self._output = output
        self._pending = pending
        self._account = account
        self._lock = lock
        self._listener = listener
        self._max_reject_rate = max_reject_rate
        self._computing_since = time.perf_counter()
        self._told = 0

    def run(self, execute: Execute, job: Job) -> None:
        """Run all pending units, until :data:`ATTEMPTS` rounds in a row have achieved nothing.

        Raises:
            FatalError: units failed each time, or a failure that no unit would escape.
        """
        total = sum(unit.images for unit in self._pending.values())
        self._advance_to(Progress(0, total, 0, 0.0))
        self._computing_since = time.perf_counter()
        idle = 0
        while True:
            before = len(self._pending)
            failures = self._round(execute, job)
            if not self._pending:
                return
            error = next(reversed(failures.values())).error if failures else "a worker died"
            idle = 0 if len(self._pending) < before else idle + 1
            if idle == ATTEMPTS:
                break
            self._listener.noted(
                f"{plural(len(self._pending), 'unit')} failed ({error}); trying again"
            )
            time.sleep(_BACK_OFF[max(idle - 1, 0)])
        details = self._output.storage.shown(FAILURES)
        raise FatalError(
            f"{plural(len(self._pending), 'unit')} failed {ATTEMPTS} times, last with: {error}; "
            f"details are in {details}, what is done is kept, run the same command again to retry "
            "the rest"
        )

    def _round(self, execute: Execute, job: Job) -> dict[str, UnitResult]:
        """Run what is pending once; the results of units that failed."""
        failures: dict[str, UnitResult] = {}
        attempts.sweep(self._output.storage, self._output.names, self._pending)
        try:
            for result in execute(job, list(self._pending.values())):
                if result.fatal:
                    raise FatalError(result.error)
                if result.record is None:
                    failures[result.unit] = result
                else:
                    if result.worker_info is not None:
                        self._account.add_worker(result.worker_info)
                    self._advance(result.record)
        except RestyleError:
            raise
        except Exception as error:
            # Whatever Ray raises; its units have no entry, which is all that counts.
            failures[""] = failure("", error)
        if self._pending:
            # A worker may have died between its unit's entry and its result.
            self._output.look()
            done = sorted(self._output.entries.units & self._pending.keys())
            for record in ledger.read_records(self._output.storage, done, self._output.entries):
                self._advance(record)
        if failures:
            trace = "\n".join(f"{unit}\n{each.trace}" for unit, each in failures.items())
            self._output.storage.write(FAILURES, trace.encode())
        return failures

    def _advance(self, record: UnitRecord) -> None:
        self._lock.check()
        if self._pending.pop(record.unit, None) is None:
            return
        self._output.add(record)
        before = self._account.progress
        if not before.done:
            # The time that workers took to start says nothing about the time that is left.
            working = time.perf_counter() - sum(record.seconds.values())
            self._computing_since = max(self._computing_since, working)
        self._tell(record.notes)
        self._advance_to(
            Progress(
                done=before.done + record.images,
                total=before.total,
                rejects=before.rejects + sum(record.rejects.values()),
                seconds=time.perf_counter() - self._computing_since,
            )
        )
        self._check_rejects()

    def _tell(self, notes: Sequence[str]) -> None:
        for note in notes[: max(0, _MOST_TOLD - self._told)]:
            self._listener.noted(note)
        if self._told < _MOST_TOLD < self._told + len(notes):
            self._listener.noted("more notes like these stand with the units in _ledger")
        self._told += len(notes)

    def _advance_to(self, progress: Progress) -> None:
        self._account.progress = progress
        self._listener.advanced(progress)

    def _check_rejects(self) -> None:
        progress = self._account.progress
        done, rejects = progress.done, progress.rejects
        limit = self._max_reject_rate
        if rejects > limit * done and (done >= _RATE_FROM or done == progress.total):
            raise FatalError(
                f"{rejects} of {done} inputs were rejected, more than --max-reject-rate "
                f"{limit:g} allows; see {self._output.storage.shown('rejects')}"
            )


def plural(count: int, noun: str) -> str:
    """``1 unit``, ``2 units``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
