"""One run of an inversion job: run what is pending, and account for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from pipeline import ledger
from pipeline.datasets import DATASETS
from pipeline.job import Job, Receipt, failure
from pipeline.ledger import UnitRecord
from pipeline.manifest import Unit, write_plan
from pipeline.placement import choose
from pipeline.preparation import Preparation, job_of, prepare
from pipeline.report import NAME as REPORT
from pipeline.report import write_report
from pipeline.request import Interrupted, Listener, Outcome, Progress, Request
from pipeline.run_record import (
    NAME,
    Asked,
    RunRecord,
    State,
    Timings,
    counts,
    machine,
    now,
    read_run,
    versions,
    write_run,
)
from pipeline.storage import shown_uri
from pipeline.summary import Summary, summarise
from restyle_core.errors import FatalError, RestyleError

Execute = Callable[[Job, Sequence[Unit]], Iterator[Receipt]]

ATTEMPTS = 3
"""Times a unit is run before the run gives up on it."""

FAILURES = f"{ledger.FOLDER}/failures.txt"
"""What went wrong in units that failed, until the next run."""

# A share of rejects means nothing over a handful of inputs.
_RATE_FROM = 32
_BACK_OFF = (1.0, 4.0)


def invert_images(
    request: Request,
    listener: Listener | None = None,
    engine: Callable[[], AbstractContextManager[Execute]] | None = None,
) -> Outcome:
    """Run a job, or what an earlier run left of it.

    Args:
        request: the job.
        listener: is told about progress.
        engine: gives what runs units; a local Ray cluster and its graph when None.

    Returns:
        What came of it.

    Raises:
        FatalError: the job cannot go on. What is committed stays; when nothing is, the output
            is left as it was found.
        Interrupted: Ctrl-C.
    """
    run = _Run(request, prepare(request), listener or Listener())
    if not run.pending:
        return run.unchanged() or run.conclude()
    try:
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

    def __init__(self, request: Request, prepared: Preparation, listener: Listener) -> None:
        self._request = request
        self._prepared = prepared
        self._storage = prepared.storage
        self._listener = listener
        self._started = time.perf_counter()
        self._timings = Timings(started=now())
        self._device = request.device
        self._written: list[str] = []
        self._progress = Progress(0, 0, 0, 0.0)
        self._computing_since = self._started
        self.pending = {unit.name: unit for unit in prepared.pending}
        if prepared.changed:
            listener.noted(
                f"{prepared.changed} inputs have changed since they were planned; "
                "they keep the rows they have"
            )

    def unchanged(self) -> Outcome | None:
        """The outcome of an earlier run that left nothing to do, report included."""
        names = self._storage.sizes("")
        record = read_run(self._storage) if NAME in names and REPORT in names else None
        if record is None or record.state != "complete":
            return None
        self._listener.noted("nothing to do: every input is accounted for already")
        return self._outcome(self._summary(), self._storage.shown(REPORT))

    def begin(self) -> None:
        """Write what must be there before the first unit is."""
        prepared = self._prepared
        self._storage.check_writable()
        self._device = choose(prepared.settings.dtype, self._request.device).device
        self._listener.noted(
            f"{prepared.model.name}, {_plural(prepared.settings.steps, 'step')}, "
            f"{prepared.dtype_reason}, device {self._device}"
        )
        for folder in ("", ledger.FOLDER, *DATASETS):
            self._storage.sweep(folder)
        if not prepared.is_begun:
            self._written.append(ledger.SETTINGS_FILE)
            ledger.write_settings(self._storage, prepared.settings)
        self._storage.delete(FAILURES)
        if prepared.new:
            self._written.append(write_plan(self._storage, prepared.new))
        self._save("running")

    def execute(self, execute: Execute) -> None:
        """Run all pending units, each at most :data:`ATTEMPTS` times.

        Raises:
            FatalError: a unit failed each time, or a failure that no unit would escape.
        """
        job = job_of(self._request, self._prepared, self._device)
        total = sum(len(unit.images) for unit in self.pending.values())
        self._progress = Progress(0, total, 0, 0.0)
        self._listener.advanced(self._progress)
        self._computing_since = time.perf_counter()
        error = ""
        for attempt in range(ATTEMPTS):
            failures = self._round(execute, job)
            if not self.pending:
                return
            error = next(reversed(failures.values())).error if failures else "a worker died"
            if attempt < len(_BACK_OFF):
                self._listener.noted(
                    f"{_plural(len(self.pending), 'unit')} failed ({error}); trying again"
                )
                time.sleep(_BACK_OFF[attempt])
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
                    self._device = receipt.device
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
        if self.pending.pop(record.unit, None) is None:
            return
        if not self._progress.done:
            # The time that workers took to start says nothing about the time that is left.
            working = time.perf_counter() - sum(record.seconds.values())
            self._computing_since = max(self._computing_since, working)
        before = self._progress
        self._progress = Progress(
            done=before.done + record.images,
            total=before.total,
            rejects=before.rejects + sum(record.rejects.values()),
            seconds=time.perf_counter() - self._computing_since,
        )
        self._listener.advanced(self._progress)
        self._check_rejects()

    def _check_rejects(self) -> None:
        done, rejects = self._progress.done, self._progress.rejects
        limit = self._request.max_reject_rate
        if rejects > limit * done and (done >= _RATE_FROM or done == self._progress.total):
            raise FatalError(
                f"{rejects} of {done} inputs were rejected, more than --max-reject-rate "
                f"{limit:g} allows; see {self._storage.shown('rejects')}"
            )

    def conclude(self) -> Outcome:
        """Account for the whole output in ``run.json`` and ``report.html``."""
        summary = self._save("complete")
        return self._outcome(summary, write_report(self._request.out))

    def interrupted(self) -> str:
        """Record that the user stopped the run; how far it came and how to go on."""
        with contextlib.suppress(RestyleError):
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
        for name in (NAME, FAILURES, *self._written):
            with contextlib.suppress(RestyleError):
                self._storage.delete(name)
        self._storage.prune()

    def _summary(self) -> Summary:
        done = sorted(ledger.committed(self._storage))
        return summarise(self._prepared.units, ledger.read_records(self._storage, done))

    def _outcome(self, summary: Summary, report: str) -> Outcome:
        seconds = time.perf_counter() - self._started
        return Outcome(summary, self._progress.done, seconds, report)

    def _save(self, state: State, error: str | None = None) -> Summary:
        summary = self._summary()
        request, prepared = self._request, self._prepared
        done, seconds = self._progress.done, self._progress.seconds
        config = prepared.model.config
        record = RunRecord(
            state=state,
            error=error,
            asked=Asked(
                source=shown_uri(request.source),
                out=shown_uri(request.out),
                limit=request.limit,
                device=request.device,
                batch_size=request.batch_size,
                max_reject_rate=request.max_reject_rate,
            ),
            settings=prepared.settings,
            fingerprint=prepared.settings.fingerprint,
            model={
                "name": config.name,
                "domain": config.domain,
                "encoder": prepared.model.encoder,
                "fingerprint": prepared.model.fingerprint,
                "image_size": list(config.image_size),
            },
            device=self._device,
            dtype=prepared.settings.dtype,
            dtype_reason=prepared.dtype_reason,
            steps=prepared.settings.steps,
            reconstructions=prepared.settings.reconstructions,
            metrics=list(prepared.settings.metrics),
            means=summary.metrics,
            counts=counts(summary),
            timings=self._timings.model_copy(
                update={
                    "finished": None if state == "running" else now(),
                    "seconds": round(time.perf_counter() - self._started, 3),
                    "images": done,
                    "images_per_second": round(done / seconds, 3) if done else None,
                    "stages": summary.seconds,
                }
            ),
            versions=versions(),
            machine=machine(),
        )
        write_run(self._storage, record)
        return summary


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
