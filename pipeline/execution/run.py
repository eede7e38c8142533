"""One run of a task: plan, process the pending units, and write record and report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from restyle.core.errors import DamagedError, FatalError, RestyleError
from restyle.core.shown_text import are
from restyle.pipeline.accounting.compaction import tidy
from restyle.pipeline.accounting.findings import check_units, lost_files
from restyle.pipeline.accounting.run_record import NAME, State, read_run
from restyle.pipeline.accounting.summary import Summary, summarise
from restyle.pipeline.execution.executor import Engine, executor
from restyle.pipeline.execution.placement import PLAIN, choose, operators
from restyle.pipeline.execution.recorder import Recorder
from restyle.pipeline.execution.request import Outcome
from restyle.pipeline.execution.rounds import FAILURES, RAY_LOG, Execute, Rounds
from restyle.pipeline.execution.task import Task
from restyle.pipeline.ledger import attempts
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.manifest import UnitRef, plans_among
from restyle.pipeline.listener import Interrupted, Listener
from restyle.pipeline.monitoring.meter import Meter
from restyle.pipeline.monitoring.monitor import Monitoring, monitored
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.sources.output_names import REPORT_FILE
from restyle.pipeline.storage.lock import DriverLock, driver_lock


def conduct(
    prepare: Callable[[], Task],
    listener: Listener,
    engine: Engine | None = None,
    monitoring: Monitoring | None = None,
    out: str = "",
) -> Outcome:
    """Plan a task, process its pending units, and write record and report, under the driver's lock.

    Args:
        prepare: creates the task; called again if the output's settings changed before the lock
            was acquired.
        listener: receives notes and progress.
        engine: creates the executor of units; None to choose one by the task's workers and the
            number of inputs.
        monitoring: how the run is watched; None for not at all.
        out: path or URI of the output, for whoever is told of a failure before there is a task.

    Returns:
        Summary of the output, and number of inputs, duration and report of this run.

    Raises:
        FatalError: the run cannot continue. Committed units stay; if the output has no rows, the
            run removes everything that it wrote.
        Interrupted: the user pressed Ctrl-C.
    """
    with monitored(monitoring or Monitoring(), listener, out) as meter:
        return _conducted(prepare, meter, engine)


def _conducted(prepare: Callable[[], Task], listener: Meter, engine: Engine | None) -> Outcome:
    task = prepare()
    with driver_lock(task.output.storage, listener) as lock:
        if task.is_outdated():
            # Another driver changed the settings before this one acquired the lock.
            task = prepare()
        # Anything read before the lock was acquired may be outdated.
        task.output.look()
        run = _Run(task, listener, lock)
        try:
            run.plan()
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
            raise run.with_log(error) from error


class _Run:
    """State of one run; :func:`conduct` calls its methods in the order of their definition."""

    def __init__(
        self,
        task: Task,
        listener: Meter,
        lock: DriverLock,
    ) -> None:
        self._task = task
        self._output = task.output
        self._storage = task.output.storage
        self._listener = listener
        self._lock = lock
        self._record = Recorder(task, listener)
        self._is_bound = task.is_begun
        self._has_begun = False
        self._plans_before = set(plans_among(self._output.names))
        self.pending: dict[str, UnitRef] = {}

    def plan(self) -> None:
        """Update the manifest and determine the pending units."""
        planned_inputs = PlannedInputs.read(self._output)
        check_units(self._output)
        # Lost rows must not count as done, and must be reported before hours of computation.
        if lost := lost_files(self._output):
            raise DamagedError(lost)
        self._record.planned = self._task.plan(planned_inputs, self._listener, self._bind)
        units, done = self._output.manifest.units, self._output.entries.units
        self.pending = {unit.name: unit for unit in units if unit.name not in done}

    def _bind(self) -> None:
        """Write the settings, unless the output has them."""
        if not self._is_bound:
            self._task.bind()
            self._is_bound = True

    def unchanged(self) -> Outcome | None:
        """Return the outcome if record and report of an earlier run are current, else None."""
        if self._tidy():
            return None
        names = self._storage.sizes("")
        record = read_run(self._storage) if NAME in names and REPORT_FILE in names else None
        if record is None or record.state != "complete":
            return None
        self._listener.noted("nothing to do: every input is accounted for already")
        summary = summarise(self._output)
        self._record.save_idle(summary)
        return self._outcome(summary, self._storage.shown(REPORT_FILE))

    def begin(self) -> None:
        """Write settings and run record before the first unit, and delete logs of the last run."""
        task = self._task
        self._record.device = choose(task.dtype, task.device, task.workers).device
        self._listener.noted(f"{task.title()}, {task.dtype_reason}, device {self._record.device}")
        self._record.kernels = operators(self._record.device, task.workers)
        if self._record.kernels.startswith(PLAIN):
            self._listener.noted(f"the generator's operators: {self._record.kernels}")
        self._bind()
        for name in {FAILURES, RAY_LOG}.intersection(self._output.names):
            self._storage.delete(name)
        self._has_begun = True
        self._save("running")

    def executor(self) -> AbstractContextManager[Execute]:
        """Return the context manager of the executor for the pending units."""
        images = sum(unit.images for unit in self.pending.values())
        return executor(
            self._task.workers, self._task.pictures(images), self._listener, self._listener.samples
        )

    def execute(self, execute: Execute) -> None:
        """Process all pending units.

        Raises:
            FatalError: units failed repeatedly, or a failure affects every unit.
        """
        images = sum(unit.images for unit in self.pending.values()) / len(self.pending)
        job = self._task.job(self._record.device, images)
        rounds = Rounds(
            self._output,
            self.pending,
            self._record,
            self._lock,
            self._listener,
            self._task.max_reject_rate,
        )
        rounds.run(execute, job)

    def conclude(self) -> Outcome:
        """Write ``run.json`` and ``report.html`` for the whole output."""
        self._tidy()
        # A worker killed in this or an earlier run may have left temporary files.
        for folder in ("", ledger.FOLDER, *self._datasets):
            self._storage.sweep(folder)
        summary = self._save("complete")
        report = self._task.operation.write_report(self._output, self._task.settings)
        return self._outcome(summary, report)

    def interrupted(self) -> str:
        """Record the interruption; return a line with the progress and how to continue."""
        with contextlib.suppress(RestyleError):
            if self._is_bound:
                self._look()
                summary = self._save("interrupted")
                noun = self._task.operation.inputs
                noun = noun.removesuffix("s") if summary.images == 1 else noun
                return (
                    f"interrupted; {summary.done_images} of {summary.images} {noun} "
                    f"{are(summary.images)} done, "
                    "run the same command again to continue"
                )
        return "interrupted; run the same command again to continue"

    def failed(self, error: str) -> None:
        """Record the failure, or remove the files of this run if it has neither rows nor logs."""
        # An error here, such as a full disk again, must not replace the original one.
        with contextlib.suppress(RestyleError):
            # Raises if another driver has taken over the output or the storage does not respond;
            # in both cases this run must not change the output.
            self._lock.confirm()
            self._look()
            has_rows = self._holds_rows()
            if not has_rows:
                # Where nothing succeeded, the fault may be that of the job or of its machines.
                self._delete(attempts.among(self._output.names))
            # The error or a note names the logs.
            if has_rows or self._logs():
                self._save("failed", error)
            else:
                self._withdraw()

    def with_log(self, error: FatalError) -> FatalError:
        """Add the path of Ray's log to an error, if this run has one."""
        with contextlib.suppress(RestyleError):
            if RAY_LOG in self._logs():
                log = self._storage.shown(RAY_LOG)
                return type(error)(f"{error}; what Ray said is in {log}")
        return error

    @property
    def _datasets(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self._task.operation.datasets_of(self._task.settings)
        return found

    def _look(self) -> None:
        """Read the ledger, and count units that were committed and whose results are lost."""
        self._output.look()
        entries = self._output.entries
        done = sorted(entries.units & self.pending.keys())
        for record in ledger.read_records(self._storage, done, entries):
            del self.pending[record.unit]
            self._record.add_unit(record)

    def _logs(self) -> set[str]:
        """Return the logs that this run has written."""
        if not self._has_begun:
            return set()
        return {FAILURES, RAY_LOG}.intersection(self._storage.sizes(ledger.FOLDER))

    def _holds_rows(self) -> bool:
        """Whether the output has entries or dataset files, which need manifest and settings."""
        return bool(self._output.entries.units) or any(map(self._storage.sizes, self._datasets))

    def _withdraw(self) -> None:
        """Remove the files that this run wrote, for an output with neither rows nor logs."""
        self._record.discard()
        names = self._output.names
        written = [*(set(plans_among(names)) - self._plans_before)]
        if self._is_bound and not self._task.is_begun:
            written.append(self._task.operation.settings_file)
        self._delete(written)
        self._storage.prune([ledger.FOLDER, *self._datasets])
        if not self._plans_before:
            self._task.withdraw()

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(RestyleError):
                self._storage.delete(name)

    def _tidy(self) -> bool:
        """Clean up after a killed compaction or retry; return whether anything changed."""
        self._lock.confirm()
        return tidy(self._output, self._task.operation, self._task.settings)

    def _outcome(self, summary: Summary, report: str) -> Outcome:
        return Outcome(summary, self._record.progress.done, self._record.seconds, report)

    def _save(self, state: State, error: str | None = None) -> Summary:
        summary = summarise(self._output)
        self._record.save(state, summary, error)
        return summary
