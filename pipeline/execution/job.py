"""Interface between a run and its workers: jobs, stages and results; without Ray and torch."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from restyle.core.errors import FatalError
from restyle.pipeline.accounting.machine import WorkerInfo
from restyle.pipeline.execution.watchdog import Stalled
from restyle.pipeline.ledger.entries import UnitRecord

Stepped = Callable[[], None]
"""Callback of a stage after each part of a unit; counts as progress for the watchdog."""


class Stage(Protocol):
    """One stage of an operation in a worker. Several threads call it, each with its own unit.

    The first stage takes a :class:`~restyle.pipeline.ledger.manifest.UnitRef`, each later one the
    value of the stage before it, and the last one returns a :class:`UnitResult`. A
    :class:`UnitResult` of an earlier stage means that the unit failed; the later ones are skipped.
    """

    def __call__(self, unit: Any, /) -> Any:
        """Process one unit; failures are returned as a :class:`UnitResult`, not raised."""

    def close(self) -> None:
        """End the stage's threads and processes."""


class StageType(Protocol):
    """Class of a stage, instantiated in a worker; its name becomes the name of the worker."""

    __name__: str

    def __call__(self, job: Any, threads: int | None, stepped: Stepped | None, /) -> Stage:
        """Start the stage with a number of cores; None for all of the machine."""


@dataclass(frozen=True)
class StageSpec:
    """A stage and the workers that it needs.

    Attributes:
        name: name of the stage in messages, such as ``alignment``.
        pool: ``align`` for workers without a model, on CPU cores; ``compute`` for workers with a
            model, on a GPU where there is one.
        start: class of the stage.
        together: most units that one worker processes at the same time.
        is_serial: a worker uses a single CPU core; several workers are started then.
    """

    name: str
    pool: Literal["align", "compute"]
    start: StageType
    together: int
    is_serial: bool = False


class Job(ABC):
    """Parameters of the workers of an operation; sent to them by pickle.

    Attributes:
        out: URI of the output.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: cores to use on this machine.
        stages: stages of a unit, in order.
    """

    out: str
    device: str
    threads: int
    stages: tuple[StageSpec, ...]

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Fingerprint of the settings of the rows."""


@dataclass(frozen=True)
class UnitResult:
    """Result of one unit: committed or failed.

    Attributes:
        unit: name of the unit.
        record: its ledger entry; None when it failed.
        error: reason of the failure, in one line.
        fatal: every other unit would fail in the same way, so that the run ends.
        trace: traceback of the error.
        worker_info: machine and operators that computed it; None when it failed.
    """

    unit: str
    record: UnitRecord | None = None
    error: str = ""
    fatal: bool = False
    trace: str = ""
    worker_info: WorkerInfo | None = None


def failure(unit: str, error: Exception, *, fatal: bool = False) -> UnitResult:
    """Return the result of a unit that failed with an exception."""
    return UnitResult(
        unit,
        error=one_line(error),
        fatal=fatal or isinstance(error, FatalError),
        trace="".join(traceback.format_exception(error)),
    )


def one_line(error: BaseException) -> str:
    """Return an exception as one line of at most 500 characters, with its type if it is foreign."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, FatalError | Stalled):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
