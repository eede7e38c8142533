"""What a run asks of its workers, and what they answer; imports neither Ray nor torch."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from restyle.core.errors import FatalError
from restyle.pipeline.accounting.machine import Workplace
from restyle.pipeline.ledger.entries import UnitRecord

Stepped = Callable[[], None]
"""Is called whenever a part of a unit is done, for whoever watches over the worker."""


class Stage(Protocol):
    """One stage of an operation in a worker: takes what the stage before it made of a unit.

    Called by several threads, for a unit each. The first stage takes a
    :class:`~restyle.pipeline.ledger.manifest.UnitRef`, the last one returns a :class:`Receipt`;
    a :class:`Receipt` of an earlier stage says that the unit failed and passes the others by.
    """

    def __call__(self, unit: Any, /) -> Any:
        """Process one unit; failures are returned as a receipt, not raised."""

    def close(self) -> None:
        """End the stage's threads and processes."""


class StageType(Protocol):
    """A class of stages, as a worker starts them; its name is the name of the worker."""

    __name__: str

    def __call__(self, job: Any, threads: int | None, stepped: Stepped | None, /) -> Stage:
        """Start the stage with so many cores, None for those of its machine."""


@dataclass(frozen=True)
class StageSpec:
    """A stage and the workers that it needs.

    Attributes:
        name: names the stage in messages, ``alignment``.
        pool: ``align`` for workers that use CPU cores alone, ``compute`` for those with a model,
            and a GPU where there is one.
        start: starts it in a worker.
        together: units that one worker has in work at the same time.
        is_serial: one worker keeps one CPU core busy, whatever it has; several are started then.
    """

    name: str
    pool: Literal["align", "compute"]
    start: StageType
    together: int
    is_serial: bool = False


class Job(ABC):
    """What the workers of an operation need to know; travels to them by pickle.

    Attributes:
        out: the output's URI.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: cores to use on this machine.
        stages: what units pass, in order.
    """

    out: str
    device: str
    threads: int
    stages: tuple[StageSpec, ...]

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Fingerprint of the settings that shape the rows."""


@dataclass(frozen=True)
class Receipt:
    """What became of a unit.

    Attributes:
        unit: its name.
        record: its ledger entry when it is committed.
        error: why it is not, in one line.
        fatal: no unit will fare better.
        trace: the whole story of the error.
        workplace: where and how it was computed, unless it failed.
    """

    unit: str
    record: UnitRecord | None = None
    error: str = ""
    fatal: bool = False
    trace: str = ""
    workplace: Workplace | None = None


def failure(unit: str, error: Exception, *, fatal: bool = False) -> Receipt:
    """The receipt of a unit that an exception ended."""
    return Receipt(
        unit,
        error=one_line(error),
        fatal=fatal or isinstance(error, FatalError),
        trace="".join(traceback.format_exception(error)),
    )


def one_line(error: BaseException) -> str:
    """An exception as one line of bounded length."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, FatalError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
