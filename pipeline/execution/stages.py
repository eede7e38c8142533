"""The last stage of every operation: computes, writes and commits units."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

from restyle.core.errors import RestyleError
from restyle.pipeline.accounting.machine import WorkerInfo
from restyle.pipeline.execution.job import Job, Stepped, UnitResult, failure
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.attempts import ALONE_FROM, MAX_TRIES, Admission, Attempts
from restyle.pipeline.ledger.commit import EncodedUnit, write_unit
from restyle.pipeline.storage.filesystem import open_storage

J = TypeVar("J", bound=Job)
U = TypeVar("U")
V = TypeVar("V", contravariant=True)


class Computation(Protocol[V]):
    """Computation of a unit's rows with a model in memory. Several threads may call it."""

    @property
    def worker_info(self) -> WorkerInfo:
        """Machine, device and operators in use."""

    def __call__(self, unit: V, /) -> EncodedUnit:
        """Compute all rows of a unit."""

    def close(self) -> None:
        """End its threads."""


class ComputeStage(ABC, Generic[J, U]):
    """Last stage of every job: computes, writes and commits units, several at a time.

    Args:
        job: parameters of the run.
        threads: cores to use; None for all of this machine.
        stepped: see :data:`~restyle.pipeline.execution.job.Stepped`.
    """

    def __init__(self, job: J, threads: int | None = None, stepped: Stepped | None = None) -> None:
        self._job: J = job
        self._storage = open_storage(job.out)
        self._attempts = Attempts(self._storage)
        self._admission = Admission()
        self._failure: Exception | None = None
        try:
            self._compute = self._started(
                threads or len(os.sched_getaffinity(0)), stepped or (lambda: None)
            )
        except Exception as error:
            # Ray would restart the actor repeatedly after an exception here.
            self._failure = error

    def __call__(self, unit: U) -> UnitResult:
        """Compute and commit a unit; failures are returned, not raised."""
        name = self._name_of(unit)
        if self._failure is not None:
            return failure(name, self._failure, fatal=True)
        try:
            record = ledger.find(self._storage, name)
            if record is not None:
                # Ray repeats a unit whose result was lost with its worker or node. Its files
                # must not be written again: a death during that would invalidate the entry.
                self._attempts.end(name)
                return UnitResult(name, record, worker_info=self._compute.worker_info)
            failed = self._attempts.failed(name)
            with self._admission.admitted(alone=failed >= ALONE_FROM):
                return self._try(name, unit, failed)
        except Exception as error:
            return failure(name, error)

    def close(self) -> None:
        """End its threads."""
        if self._failure is None:
            self._compute.close()

    @abstractmethod
    def _started(self, threads: int, stepped: Stepped) -> Computation[U]:
        """Create the computation."""

    @abstractmethod
    def _name_of(self, unit: U) -> str:
        """Return the unit's name."""

    @abstractmethod
    def _given_up(self, unit: U) -> EncodedUnit:
        """Return the rows of a unit that killed its worker :data:`MAX_TRIES` times."""

    def _try(self, name: str, unit: U, failed: int) -> UnitResult:
        given_up = failed >= MAX_TRIES
        if not given_up:
            self._attempts.begin(name, failed + 1)
        try:
            encoded = self._given_up(unit) if given_up else self._compute(unit)
            record = write_unit(self._storage, encoded, self._job.fingerprint)
        except RestyleError:
            # Failures of the model or the storage do not count as attempts of the unit.
            with contextlib.suppress(RestyleError):
                self._attempts.take_back(name, failed)
            raise
        self._attempts.end(name)
        return UnitResult(name, record, worker_info=self._compute.worker_info)
