"""One run of an inversion job: plan, run what is pending, and account for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from restyle.core.errors import FatalError, RestyleError
from restyle.pipeline.accounting.compaction import tidy
from restyle.pipeline.accounting.findings import check_units
from restyle.pipeline.accounting.recorder import Recorder
from restyle.pipeline.accounting.run_record import NAME, Command, State, read_run
from restyle.pipeline.accounting.summary import Summary, summarise
from restyle.pipeline.execution.executor import Engine, executor
from restyle.pipeline.execution.placement import PLAIN, choose, operators
from restyle.pipeline.execution.request import Outcome, Request
from restyle.pipeline.execution.rounds import FAILURES, Execute, Rounds, plural
from restyle.pipeline.inversion.input_plan import InputPlan, plan_input
from restyle.pipeline.inversion.preparation import Preparation, job_of, prepare
from restyle.pipeline.ledger import attempts
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import DATASETS
from restyle.pipeline.ledger.manifest import UnitRef, plan_names
from restyle.pipeline.ledger.planned_inputs import Known
from restyle.pipeline.ledger.planner import Planned
from restyle.pipeline.listener import Interrupted, Listener
from restyle.pipeline.report.report import write_report
from restyle.pipeline.sources.output_names import REPORT_FILE
from restyle.pipeline.storage.filesystem import Storage
from restyle.pipeline.storage.lock import DriverLock, driver_lock

Plan = Callable[[Storage, Known, Listener, Callable[[], None]], Planned]
"""Adds units to a manifest; calls its last argument before it writes anything."""


def invert_images(
    request: Request, listener: Listener | None = None, engine: Engine | None = None
) -> Outcome:
    """Run a job, or what an earlier run left of it.

    Args:
        request: the job.
        listener: is told about progress.
        engine: gives what runs units; chosen by ``request.workers`` and their number when None.

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
            with engine() if engine else run.executor() as execute:
                run.execute(execute)
            return run.conclude()
        except KeyboardInterrupt:
            raise Interrupted(run.interrupted()) from None
        except FatalError as error:
            run.failed(str(error))
            raise


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
        self._units: list[UnitRef] = []
        self.pending: dict[str, UnitRef] = {}

    def plan(self, plan: Plan) -> None:
        """Bring the manifest up to date and find out what is pending."""
        known = Known.read(self._storage)
        check_units(self._storage, known.units, ledger.committed(self._storage))
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
        if self._tidy():
            return None
        names = self._storage.sizes("")
        record = read_run(self._storage) if NAME in names and REPORT_FILE in names else None
        if record is None or record.state != "complete":
            return None
        self._listener.noted("nothing to do: every input is accounted for already")
        summary = self._summary()
        self._record.save_idle(summary)
        return self._outcome(summary, self._storage.shown(REPORT_FILE))

    def begin(self) -> None:
        """Write what must be there before the first unit is."""
        prepared = self._prepared
        self._record.device = choose(
            prepared.settings.dtype, self._request.device, self._request.workers
        ).device
        self._listener.noted(
            f"{prepared.model.name}, {plural(prepared.settings.steps, 'step')}, "
            f"{prepared.dtype_reason}, device {self._record.device}"
        )
        self._record.kernels = operators(self._record.device, self._request.workers)
        if self._record.kernels.startswith(PLAIN):
            self._listener.noted(f"the generator's operators: {self._record.kernels}")
        self._sweep()
        self._bind()
        self._storage.delete(FAILURES)
        self._save("running")

    def executor(self) -> AbstractContextManager[Execute]:
        """Where the pending units are run."""
        images = sum(unit.images for unit in self.pending.values())
        return executor(self._request.workers, images, self._listener)

    def execute(self, execute: Execute) -> None:
        """Run all pending units.

        Raises:
            FatalError: they fail again and again, or a failure that no unit would escape.
        """
        images = sum(unit.images for unit in self.pending.values()) / len(self.pending)
        job = job_of(self._request, self._prepared, self._record.device, images)
        rounds = Rounds(
            self._storage,
            self.pending,
            self._record,
            self._lock,
            self._listener,
            self._request.max_reject_rate,
        )
        rounds.run(execute, job)

    def conclude(self) -> Outcome:
        """Account for the whole output in ``run.json`` and ``report.html``."""
        self._tidy()
        # A worker that was killed in this run may have been writing.
        self._sweep()
        summary = self._save("complete")
        return self._outcome(summary, write_report(self._request.out))

    def _sweep(self) -> None:
        for folder in ("", ledger.FOLDER, *DATASETS):
            self._storage.sweep(folder)

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
        """Record the failure, or leave no trace when it is certain that nothing was committed."""
        # The failure itself is what the user must hear of, and a full disk fails here again.
        with contextlib.suppress(RestyleError):
            # Where the output is another driver's now, nothing in it is ours to change; and where
            # it does not answer, nothing is known about it.
            self._lock.confirm()
            if self._holds_rows():
                self._save("failed", error)
            else:
                self._withdraw()

    def _holds_rows(self) -> bool:
        """Whether anything depends on the manifest and the settings."""
        storage = self._storage
        return bool(ledger.entry_names(storage)) or any(map(storage.sizes, DATASETS))

    def _withdraw(self) -> None:
        """Take back what this run wrote into an output that holds no rows."""
        self._record.discard()
        written = [FAILURES, *(set(plan_names(self._storage)) - self._plans_before)]
        written += attempts.names(self._storage)
        if self._is_bound and not self._prepared.is_begun:
            written.append(ledger.SETTINGS_FILE)
        for name in written:
            with contextlib.suppress(RestyleError):
                self._storage.delete(name)
        self._storage.prune([ledger.FOLDER, *DATASETS])

    def _tidy(self) -> bool:
        """Finish what an earlier compaction or retry left half-done; whether there was any."""
        self._lock.confirm()
        return tidy(self._storage)

    def _summary(self) -> Summary:
        done = sorted(ledger.committed(self._storage))
        return summarise(self._units, ledger.read_records(self._storage, done))

    def _outcome(self, summary: Summary, report: str) -> Outcome:
        return Outcome(summary, self._record.progress.done, self._record.seconds, report)

    def _save(self, state: State, error: str | None = None) -> Summary:
        summary = self._summary()
        self._record.save(state, summary, error)
        return summary
