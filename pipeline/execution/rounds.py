"""Rounds: run the pending units repeatedly until none is pending."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from restyle.core.errors import FatalError, RestyleError
from restyle.core.shown_text import plural
from restyle.pipeline.accounting.machine import WorkerInfo
from restyle.pipeline.accounting.summary import Tally
from restyle.pipeline.execution.job import Job, UnitResult, failure
from restyle.pipeline.ledger import attempts
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.listener import Listener, Progress
from restyle.pipeline.storage.lock import DriverLock

Execute = Callable[[Job, Sequence[UnitRef]], Iterator[UnitResult]]
"""Runs units and yields their results in any order; a unit may have no result."""

ATTEMPTS = 3
"""Number of consecutive rounds without a new entry after which the run fails."""

FAILURES = f"{ledger.FOLDER}/failures.txt"
"""File with the stack traces of failed units, kept until the next run."""

RAY_LOG = f"{ledger.FOLDER}/ray.log"
"""File with Ray's messages, kept until the next run."""

# The reject rate is checked from this number of inputs on, as it means little for a few.
_RATE_FROM = 32
_MOST_TOLD = 5
"""Maximum number of notes on inputs passed to the listener per run."""

_BACK_OFF = (1.0, 4.0)


class Account(Protocol):
    """Receiver of the progress and the workers of a run.

    Attributes:
        progress: Progress of the run.
        this_run: Sums over the units that the run committed.
    """

    progress: Progress
    this_run: Tally

    def add_unit(self, record: UnitRecord) -> None:
        """Count a committed unit."""

    def fail(self, result: UnitResult) -> None:
        """Note a unit that failed and may be run again."""

    def retry(self, units: int) -> None:
        """Count units that are run again."""

    def add_worker(self, worker_info: WorkerInfo) -> None:
        """Record a worker's configuration, unless it is recorded already."""


class Rounds:
    """Runs the pending units of an output.

    Args:
        output: the output; committed units are added to its ledger snapshot.
        pending: pending units by name; committed units are removed.
        account: receives the progress and the workers of the run.
        lock: the lock that this driver holds.
        listener: receives notes and progress.
        max_reject_rate: share of rejected inputs, 0 to 1, above which the run stops.
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
        """Run all pending units, in as many rounds as necessary.

        Args:
            execute: runs the units.
            job: job for the workers.

        Raises:
            FatalError: :data:`ATTEMPTS` consecutive rounds committed no unit, a failure affects
                every unit, too many inputs were rejected, or another driver holds the lock.
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
            self._account.retry(len(self._pending))
            time.sleep(_BACK_OFF[max(idle - 1, 0)])
        details = self._output.storage.shown(FAILURES)
        raise FatalError(
            f"{plural(len(self._pending), 'unit')} failed {ATTEMPTS} times, last with: {error}; "
            f"details are in {details}, what is done is kept, run the same command again to retry "
            "the rest"
        )

    def _round(self, execute: Execute, job: Job) -> dict[str, UnitResult]:
        """Run all pending units once; return the results of failed units by name."""
        failures: dict[str, UnitResult] = {}
        attempts.sweep(self._output.storage, self._output.names, self._pending)
        try:
            for result in execute(job, list(self._pending.values())):
                if result.fatal:
                    raise FatalError(result.error)
                if result.record is None:
                    failures[result.unit] = result
                    self._account.fail(result)
                else:
                    if result.worker_info is not None:
                        self._account.add_worker(result.worker_info)
                    self._advance(result.record)
        except RestyleError:
            raise
        except Exception as error:
            # Ray can raise any exception; units without an entry run again in the next round.
            failures[""] = failure("", error)
        if self._pending:
            # A worker may have died after the commit of a unit and before its result.
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
        self._account.add_unit(record)
        done = self._account.this_run
        if not before.done:
            # Excludes the start of the workers, which would distort the estimated remaining time.
            working = time.perf_counter() - record.wall_seconds
            self._computing_since = max(self._computing_since, working)
        self._tell(record.notes)
        self._advance_to(
            Progress(
                done=done.images,
                total=before.total,
                rejects=done.rejected,
                seconds=time.perf_counter() - self._computing_since,
            )
        )
        self._check_rejects()

    def _tell(self, notes: Sequence[str]) -> None:
        for note in notes[: max(0, _MOST_TOLD - self._told)]:
            self._listener.noted(note)
        if self._told < _MOST_TOLD < self._told + len(notes):
            self._listener.noted("further notes are only in the records of the units in _ledger")
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
                f"{rejects:,} of {plural(done, 'input')} {'was' if rejects == 1 else 'were'} "
                "rejected, more than --max-reject-rate "
                f"{limit:g} allows; see {self._output.storage.shown('rejects')}"
            )
