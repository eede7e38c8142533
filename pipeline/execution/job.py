"""What a run asks of the workers, and what they answer; imports neither Ray nor torch."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restyle.core.errors import FatalError
from restyle.pipeline.accounting.machine import Workplace
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.settings import ResolvedSettings

if TYPE_CHECKING:
    from restyle.pipeline.decoding.sandbox import CropSettings


@dataclass(frozen=True)
class Job:
    """What the workers need to know.

    Attributes:
        source: ``INPUT``.
        out: the output's URI.
        model: what ``load_model`` takes.
        settings: of the run.
        crop: how images become encoder input.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: faces per batch; None for what suits the model.
        threads: cores to use on this machine.
        bootstrap: the model that takes the first step, as ``load_model`` takes it; or None.
    """

    source: str
    out: str
    model: str
    settings: ResolvedSettings
    crop: CropSettings
    device: str
    batch_size: int | None
    threads: int
    bootstrap: str | None = None


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
