"""One run of an inversion job: plan, run what is pending, and account for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from pipeline import ledger
from pipeline.datasets import DATASETS
from pipeline.input_plan import InputPlan, plan_input
from pipeline.job import Job, Receipt, failure
from pipeline.known import Known
from pipeline.ledger import UnitRecord
from pipeline.lock import DriverLock, driver_lock
from pipeline.manifest import UnitRef, plan_names
from pipeline.placement import choose
from pipeline.planner import Planned
from pipeline.preparation import Preparation, job_of, prepare
from pipeline.recorder import Recorder
from pipeline.report import NAME as REPORT
from pipeline.report import write_report
from pipeline.request import Interrupted, Listener, Outcome, Progress, Request
from pipeline.run_record import NAME, Command, State, read_run
from pipeline.storage import Storage
from pipeline.summary import Summary, summarise
from pipeline.superseded import drop_superseded_rejects
from restyle_core.errors import FatalError, RestyleError

Execute = Callable[[Job, Sequence[UnitRef]], Iterator[Receipt]]
Engine = Callable[[], AbstractContextManager[Execute]]
Plan = Callable[[Storage, Known, Listener, Callable[[], None]], Planned]
"""Adds units to a manifest; calls its last argument before it writes anything."""

ATTEMPTS = 3
"""Rounds without a single new entry before the run gives up."""

FAILURES = f"{ledger.FOLDER}/failures.txt"
"""What went wrong in units that failed, until the next run."""

# A share of rejects means nothing over a handful of inputs.
_RATE_FROM = 32
_BACK_OFF = (1.0, 4.0)


def invert_images(
    request: Request, listener: Listener | None = None, engine: Engine | None = None
) -> Outcome:
    """Run a job, or what an earlier run left of it.

    Args:
        request: the job.
        listener: is told about progress.
        engine: gives what runs units; a Ray cluster and its graph when None.

    Returns:
        What came of it.

    Raises:
        FatalError: the job cannot go on. What is committed stays; when nothing is, the output
            is left as it was found.
        Interrupted: Ctrl-C.
    """

    def plan(
        storage: Storage, known: Known, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        asked = InputPlan(request.source, request.out, request.input, request.limit)
        return plan_input(asked, storage, known, listener, before_first)

    return conduct(request, plan, listener or Listener(), engine, "invert")


def conduct(
    request: Request,
    plan: Plan,
    listener: Listener,
    engine: Engine | None,
    command: Command,
) -> Outcome:
    """Plan and run as the only driver of an output; the common part of the commands that compute.

    Args:
        request: where, with which settings and workers.
        plan: adds to the manifest what the command wants done.
        listener: is told about progress.
        engine: as in :func:`invert_images`.
        command: for the records.
    """
    prepared = prepare(request)
    with driver_lock(prepared.storage, listener) as lock:
        if ledger.read_settings(prepared.storage) != prepared.earlier:
            # Another driver was at work until now.
            prepared = prepare(request)
        run = _Run(request, prepared, listener, lock, command)
        try:
            run.plan(plan)
            if not run.pending:
                return run.unchanged() or run.conclude()
            run.begin()
            with (engine or _ray)() as execute:
                run.execute(execute)
            return run.conclude()
        except KeyboardInterrupt:
            raise Interrupted(run.interrupted()) from None
        except FatalError as error:
            run.failed(str(error))
            raise


@contextlib.contextmanager
def _ray() -> Iterator[Execute]:
    # Here, because a run with nothing to do need not wait for Ray's import.
    from pipeline.graph import local_cluster, run_units

    with local_cluster():
        yield run_units


class _Run:
    """The state of one run; its methods are called in the order in which they stand."""

    def __init__(
        self,
        request: Request,
        prepared: Preparation,
        listener: Listener,
        lock: DriverLock,
        command: Command,
    ) -> None:
        self._request = request
        self._prepared = prepared
        self._storage = prepared.storage
        self._listener = listener
        self._lock = lock
        self._record = Recorder(request, prepared, command)
        self._is_bound = prepared.is_begun
        self._plans_before = set(plan_names(self._storage))
        self._computing_since = time.perf_counter()
        self._units: list[UnitRef] = []
        self.pending: dict[str, UnitRef] = {}

    def plan(self, plan: Plan) -> None:
        """Bring the manifest up to date and find out what is pending."""
        known = Known.read(self._storage)
        # The same list, so that an interrupted planning is counted as far as it came.
        self._units = known.units
        self._record.planned = plan(self._storage, known, self._listener, self._bind)
        done = ledger.committed(self._storage)
        self.pending = {unit.name: unit for unit in self._units if unit.name not in done}

    def _bind(self) -> None:
        """Write the settings; together with the first entry they bind the output."""
        if not self._is_bound:
            ledger.write_settings(self._storage, self._prepared.settings)
            self._is_bound = True

    def unchanged(self) -> Outcome | None:
        """The outcome of an earlier run that left nothing to do, report included."""
        if drop_superseded_rejects(self._storage):
            return None
        names = self._storage.sizes("")
        record = read_run(self._storage) if NAME in names and REPORT in names else None
        if record is None or record.state != "complete":
            return None
        self._listener.noted("nothing to do: every input is accounted for already")
        summary = self._summary()
        self._record.save_idle(summary)
        return self._outcome(summary, self._storage.shown(REPORT))

    def begin(self) -> None:
        """Write what must be there before the first unit is."""
        prepared = self._prepared
        self._record.device = choose(prepared.settings.dtype, self._request.device).device
        self._listener.noted(
            f"{prepared.model.name}, {_plural(prepared.settings.steps, 'step')}, "
            f"{prepared.dtype_reason}, device {self._record.device}"
        )
        for folder in ("", ledger.FOLDER, *DATASETS):
            self._storage.sweep(folder)
        self._bind()
        self._storage.delete(FAILURES)
        self._save("running")

    def execute(self, execute: Execute) -> None:
        """Run all pending units, until :data:`ATTEMPTS` rounds in a row have achieved nothing.

        Raises:
            FatalError: units failed each time, or a failure that no unit would escape.
        """
        job = job_of(self._request, self._prepared, self._record.device)
        total = sum(unit.images for unit in self.pending.values())
        self._advance_to(Progress(0, total, 0, 0.0))
        self._computing_since = time.perf_counter()
        idle = 0
        while True:
            before = len(self.pending)
            failures = self._round(execute, job)
            if not self.pending:
                return
            error = next(reversed(failures.values())).error if failures else "a worker died"
            idle = 0 if len(self.pending) < before else idle + 1
            if idle == ATTEMPTS:
                break
            self._listener.noted(
                f"{_plural(len(self.pending), 'unit')} failed ({error}); trying again"
            )
            time.sleep(_BACK_OFF[min(idle, len(_BACK_OFF)) - 1] if idle else _BACK_OFF[0])
        raise FatalError(
            f"{_plural(len(self.pending), 'unit')} failed {ATTEMPTS} times, last with: {error}; "
            f"details are in {self._storage.shown(FAILURES)}, what is done is kept, run the same "
            "command again to retry the rest"
        )

    def _round(self, execute: Execute, job: Job) -> dict[str, Receipt]:
        """Run what is pending once; the receipts of units that failed."""
        failures: dict[str, Receipt] = {}
        try:
            for receipt in execute(job, list(self.pending.values())):
                if receipt.fatal:
                    raise FatalError(receipt.error)
                if receipt.record is None:
                    failures[receipt.unit] = receipt
                else:
                    self._record.device = receipt.device
                    self._advance(receipt.record)
        except RestyleError:
            raise
        except Exception as error:
            # Whatever Ray raises; its units have no entry, which is all that counts.
            failures[""] = failure("", error)
        # A worker may have died between its unit's entry and its receipt.
        done = sorted(ledger.committed(self._storage) & self.pending.keys())
        for record in ledger.read_records(self._storage, done):
            self._advance(record)
        if failures:
            trace = "\n".join(f"{unit}\n{each.trace}" for unit, each in failures.items())
            self._storage.write(FAILURES, trace.encode())
        return failures

    def _advance(self, record: UnitRecord) -> None:
        self._lock.check()
        if self.pending.pop(record.unit, None) is None:
            return
        before = self._record.progress
        if not before.done:
            # The time that workers took to start says nothing about the time that is left.
            working = time.perf_counter() - sum(record.seconds.values())
            self._computing_since = max(self._computing_since, working)
        self._advance_to(
            Progress(
                done=before.done + record.images,
                total=before.total,
                rejects=before.rejects + sum(record.rejects.values()),
                seconds=time.perf_counter() - self._computing_since,
            )
        )
        self._check_rejects()

    def _advance_to(self, progress: Progress) -> None:
        self._record.progress = progress
        self._listener.advanced(progress)

    def _check_rejects(self) -> None:
        progress = self._record.progress
        done, rejects = progress.done, progress.rejects
        limit = self._request.max_reject_rate
        if rejects > limit * done and (done >= _RATE_FROM or done == progress.total):
            raise FatalError(
                f"{rejects} of {done} inputs were rejected, more than --max-reject-rate "
                f"{limit:g} allows; see {self._storage.shown('rejects')}"
            )

    def conclude(self) -> Outcome:
        """Account for the whole output in ``run.json`` and ``report.html``."""
        drop_superseded_rejects(self._storage)
        summary = self._save("complete")
        return self._outcome(summary, write_report(self._request.out))

    def interrupted(self) -> str:
        """Record that the user stopped the run; how far it came and how to go on."""
        with contextlib.suppress(RestyleError):
            if self._is_bound:
                summary = self._save("interrupted")
                return (
                    f"interrupted; {summary.done_images} of {summary.images} inputs are done, "
                    "run the same command again to continue"
                )
        return "interrupted; run the same command again to continue"

    def failed(self, error: str) -> None:
        """Record the failure, or leave no trace when nothing was committed."""
        # The failure itself is what the user must hear of, and a full disk fails here again.
        with contextlib.suppress(RestyleError):
            if ledger.committed(self._storage):
                self._save("failed", error)
                return
        self._record.discard()
        written = [FAILURES, *(set(plan_names(self._storage)) - self._plans_before)]
        if self._is_bound and not self._prepared.is_begun:
            written.append(ledger.SETTINGS_FILE)
        for name in written:
            with contextlib.suppress(RestyleError):
                self._storage.delete(name)
        self._storage.prune()

    def _summary(self) -> Summary:
        done = sorted(ledger.committed(self._storage))
        return summarise(self._units, ledger.read_records(self._storage, done))

    def _outcome(self, summary: Summary, report: str) -> Outcome:
        return Outcome(summary, self._record.progress.done, self._record.seconds, report)

    def _save(self, state: State, error: str | None = None) -> Summary:
        summary = self._summary()
        self._record.save(state, summary, error)
        return summary


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
