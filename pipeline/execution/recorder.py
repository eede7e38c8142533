"""Writer of ``run.json`` and of the run's dated record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import replace

from restyle.core.errors import RestyleError
from restyle.pipeline.accounting.machine import WorkerInfo, WorkerUse
from restyle.pipeline.accounting.run_record import (
    NAME,
    Counts,
    RunRecord,
    State,
    Timings,
    archive_run,
    counts,
    dated_name,
    machine,
    now,
    run_name,
    versions,
    write_run,
)
from restyle.pipeline.accounting.summary import Summary, Tally, bottleneck
from restyle.pipeline.execution.job import UnitResult
from restyle.pipeline.execution.task import Task
from restyle.pipeline.ledger.records import UnitRecord
from restyle.pipeline.listener import Progress
from restyle.pipeline.monitoring.measures import RunFigures
from restyle.pipeline.monitoring.meter import Meter
from restyle.pipeline.planning.planner import Planned


class Recorder:
    """Collects the state of one run and writes its records.

    Args:
        task: the task that the run processes.
        meter: receives the figures whenever they change.

    Attributes:
        device: Requested device; replaced by the devices of the workers once they report.
        kernels: Implementation of the generator's operators; empty until it is known.
        workers: Distinct configurations reported by the workers.
        used: What each worker has done, by its name.
        planned: Result of planning.
        progress: Progress of the run.
        this_run: Sums over the units that the run committed.
    """

    def __init__(self, task: Task, meter: Meter) -> None:
        self.device = task.device
        self.kernels = ""
        self.workers: list[WorkerInfo] = []
        self.used: dict[str, WorkerUse] = {}
        self.planned = Planned()
        self.progress = Progress(0, 0, 0, 0.0)
        self.this_run = Tally()
        self._task = task
        self._meter = meter
        self._info = {
            "operation": task.operation.name,
            "model": str(task.described().model.get("name", "")),
            "version": versions()["restyle-pipeline"],
        }
        self._counts: Counts | None = None
        self._storage = task.output.storage
        self._name = run_name()
        self._is_saved = False
        self._started = now()
        self._began = time.perf_counter()
        self._advanced = self._started_at = time.time()
        self._measure()

    @property
    def seconds(self) -> float:
        """Wall time in seconds since the run began."""
        return time.perf_counter() - self._began

    def add_worker(self, worker_info: WorkerInfo) -> None:
        """Record a worker's configuration, unless it is recorded already, and what it has done."""
        use = worker_info.use
        if use is not None and use.images >= self._images(use.worker):
            self.used[use.worker] = use
        if worker_info in self.workers:
            return
        self.workers.append(replace(worker_info, use=None))
        self.device = _different(each.device for each in self.workers)
        self.kernels = _different(each.kernels for each in self.workers)

    def add_unit(self, record: UnitRecord) -> None:
        """Count a committed unit."""
        self.this_run.add(record)
        if self._counts is not None:
            self._counts = self._counts.after(Tally.of([record]))
        self._advanced = time.time()
        self._measure()
        self._meter.committed(record)

    def fail(self, result: UnitResult) -> None:
        """Note a unit that failed and may be run again."""
        self._meter.failed(result.unit, result.error)

    def retry(self, units: int) -> None:
        """Count units that are run again."""
        self.this_run.retries += units
        self._measure()

    def _images(self, worker: str) -> int:
        """Images that a worker has reported: reports of units may arrive in another order."""
        return self.used[worker].images if worker in self.used else 0

    def save(self, state: State, summary: Summary, error: str | None = None) -> None:
        """Write ``run.json`` and the dated record.

        Args:
            state: state of the run.
            summary: summary of the output.
            error: error message of a failed run.
        """
        record = self._record(state, summary, error)
        self._is_saved = True
        self._counts = record.counts
        self._measure()
        write_run(self._storage, record)
        archive_run(self._storage, record)

    def save_idle(self, summary: Summary) -> None:
        """Write the dated record of a run without pending units; ``run.json`` is unchanged."""
        record = self._record("complete", summary, None)
        self._counts = record.counts
        self._measure()
        archive_run(self._storage, record)

    def discard(self) -> None:
        """Delete the records that this run wrote; errors are ignored."""
        for name in (NAME, dated_name(self._name)) if self._is_saved else ():
            with contextlib.suppress(RestyleError):
                self._storage.delete(name)

    def _record(self, state: State, summary: Summary, error: str | None) -> RunRecord:
        task, described = self._task, self._task.described()
        return RunRecord(
            run=self._name,
            new=self.planned.new,
            changed=self.planned.changed,
            vanished=self.planned.vanished,
            state=state,
            error=error,
            asked=task.asked(),
            operation=described.operation,
            settings=task.settings.model_dump(mode="json"),
            fingerprint=task.settings.fingerprint,
            model=described.model,
            device=self.device,
            dtype=task.dtype,
            dtype_reason=task.dtype_reason,
            kernels=self.kernels,
            workers=self.workers,
            used=list(self.used.values()),
            steps=described.steps,
            reconstructions=described.reconstructions,
            metrics=list(described.metrics),
            means=summary.metrics,
            worsened=summary.worsened,
            counts=counts(summary),
            this_run=replace(self.this_run, seconds=self.this_run.rounded_seconds),
            timings=self._timings(state, summary),
            versions=versions(),
            machine=machine(),
        )

    def _timings(self, state: State, summary: Summary) -> Timings:
        # A run may be interrupted when a unit is counted and the progress is not yet.
        done, seconds = self.this_run.images, self.progress.seconds
        return Timings(
            started=self._started,
            finished=None if state == "running" else now(),
            seconds=round(self.seconds, 3),
            images=done,
            rejects=self.this_run.rejected,
            images_per_second=round(done / seconds, 3) if done and seconds else None,
            stages=summary.seconds,
            bottleneck=bottleneck(summary.seconds),
        )

    def _measure(self) -> None:
        self._meter.measured(
            RunFigures(
                out=self._task.output.storage.uri,
                info={"run": self._name, **self._info},
                this_run=self.this_run,
                counts=self._counts,
                used=tuple(self.used.values()),
                started=self._started_at,
                advanced=self._advanced,
            )
        )


def _different(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))
