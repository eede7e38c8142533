"""Notes and progress of a run, and its interruption by the user."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        done: inputs accounted for in this run.
        total: inputs that were pending at its start.
        rejects: inputs rejected in this run.
        seconds: time since the start of the workers.
    """

    done: int
    total: int
    rejects: int
    seconds: float


class Interrupted(Exception):  # noqa: N818 (not an error)
    """Ctrl-C. The message has the progress of the run and how to continue it."""


class Listener:
    """Receiver of a run's events; this base class ignores them."""

    def noted(self, line: str) -> None:
        """Receive a message for the user."""

    def listed(self, inputs: int) -> None:
        """Receive the number of inputs found so far, every few thousand inputs."""

    def advanced(self, progress: Progress) -> None:
        """Receive the progress, when workers start and after each committed unit."""

    def occupied(self, stage: str, working: int, waiting: int | None) -> None:
        """Receive the number of units at a stage, whenever it changes; from any thread.

        Args:
            stage: name of the stage, such as ``alignment``.
            working: units in it.
            waiting: units that wait for it; None on Ray, which does not tell.
        """
