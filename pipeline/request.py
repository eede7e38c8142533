"""What a run is asked, and what it tells while it runs and at its end."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.settings import InversionSettings
from pipeline.summary import Summary


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        source: ``INPUT``: file, folder or glob, a path or any fsspec URI.
        out: the output, a path or any fsspec URI.
        settings: what shapes the rows.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: faces per batch; None for what suits the model.
        limit: plan only the first so many inputs.
        max_reject_rate: stop once more than this share of the inputs is rejected.
    """

    source: str
    out: str
    settings: InversionSettings
    device: str = "auto"
    batch_size: int | None = None
    limit: int | None = None
    max_reject_rate: float = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: inputs accounted for in this run.
        total: inputs that were pending when it began.
        rejects: inputs rejected in this run.
        seconds: since the workers were asked to start.
    """

    done: int
    total: int
    rejects: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        summary: the whole output, earlier runs included.
        images: inputs accounted for in this run; 0 when there was nothing to do.
        seconds: wall time of this run.
        report: where ``report.html`` is.
    """

    summary: Summary
    images: int
    seconds: float
    report: str


class Interrupted(Exception):  # noqa: N818 (no error: the user asked for it)
    """Ctrl-C. ``str()`` says how far the run came and how to go on."""


class Listener:
    """Is told what happens; does nothing by itself."""

    def noted(self, line: str) -> None:
        """Something worth a line."""

    def advanced(self, progress: Progress) -> None:
        """The workers are about to start, or a unit was committed."""
