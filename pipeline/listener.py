"""What a run tells while it works: notes, progress, and that the user stopped it."""

from __future__ import annotations

from dataclasses import dataclass


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


class Interrupted(Exception):  # noqa: N818 (no error: the user asked for it)
    """Ctrl-C. ``str()`` says how far the run came and how to go on."""


class Listener:
    """Is told what happens; does nothing by itself."""

    def noted(self, line: str) -> None:
        """Something worth a line."""

    def listed(self, inputs: int) -> None:
        """So many inputs have been found by now; called every few thousand."""

    def advanced(self, progress: Progress) -> None:
        """The workers are about to start, or a unit was committed."""
