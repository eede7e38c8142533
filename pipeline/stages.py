"""The two stages of the graph, without the graph: what an actor does with a unit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from pipeline import ledger
from pipeline.aligner import AlignedUnit, Aligner
from pipeline.attempts import ALONE_FROM, MAX_TRIES, Admission, Attempts
from pipeline.inverted import given_up
from pipeline.job import Job, Receipt, failure
from pipeline.manifest import PlanReader, UnitRef
from pipeline.sink import write_unit
from pipeline.storage import open_storage
from restyle_core.errors import RestyleError


class AlignStage:
    """Reads a unit of the manifest and aligns it.

    Args:
        job: of the run.
        processes: images in work at the same time.
    """

    name = "align"

    def __init__(self, job: Job, processes: int) -> None:
        self._aligner = Aligner(job.source, job.crop, processes)
        self._plans = PlanReader(open_storage(job.out))

    def __call__(self, ref: UnitRef) -> AlignedUnit | Receipt:
        """The unit, or a receipt that says why it failed."""
        try:
            return self._aligner(self._plans.read(ref))
        except Exception as error:
            return failure(ref.name, error)

    def close(self) -> None:
        """End its processes."""
        self._aligner.close()


class InvertStage:
    """Inverts, writes and commits units, several at a time.

    Args:
        job: of the run.
        threads: cores to work with; None for those of this machine.
        stepped: is called after each batch.
    """

    name = "invert"

    def __init__(
        self, job: Job, threads: int | None = None, stepped: Callable[[], None] | None = None
    ) -> None:
        self._storage = open_storage(job.out)
        self._settings = job.settings
        self._attempts = Attempts(self._storage)
        self._admission = Admission()
        self._failure: Exception | None = None
        try:
            # Here, because only this process may pay for torch.
            from pipeline.inverter import Inverter

            self._inverter = Inverter(
                job.model,
                job.settings,
                device=job.device,
                batch_size=job.batch_size,
                threads=threads or len(os.sched_getaffinity(0)),
                computed=stepped,
                bootstrap=job.bootstrap,
            )
        except Exception as error:
            # Raised here, it would only make Ray start the actor again and again.
            self._failure = error

    def __call__(self, aligned: AlignedUnit) -> Receipt:
        """What became of the unit."""
        if self._failure is not None:
            return failure(aligned.unit, self._failure, fatal=True)
        try:
            record = ledger.find(self._storage, aligned.unit)
            if record is not None:
                # Ray repeats a unit when its receipt was lost, with its worker or its worker's
                # node. Whoever wrote the files again and died of it would belie the entry.
                self._attempts.end(aligned.unit)
                return Receipt(aligned.unit, record, device=str(self._inverter.model.device))
            failed = self._attempts.failed(aligned.unit)
            with self._admission.admitted(alone=failed >= ALONE_FROM):
                return self._try(aligned, failed)
        except Exception as error:
            return failure(aligned.unit, error)

    def close(self) -> None:
        """End its threads."""
        if self._failure is None:
            self._inverter.close()

    def _try(self, aligned: AlignedUnit, failed: int) -> Receipt:
        if failed >= MAX_TRIES:
            message = (
                f"inverting the {aligned.images} inputs of its unit ended the worker {failed} times"
            )
            unit = given_up(aligned, self._settings, message)
        else:
            self._attempts.begin(aligned.unit, failed + 1)
            unit = self._inverter(aligned)
        try:
            record = write_unit(self._storage, unit, self._settings.fingerprint)
        except RestyleError:
            # The store's failure, or a full disk's, says nothing about the unit.
            with contextlib.suppress(RestyleError):
                self._attempts.take_back(aligned.unit, failed)
            raise
        self._attempts.end(aligned.unit)
        return Receipt(aligned.unit, record, device=str(self._inverter.model.device))
