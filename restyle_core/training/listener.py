"""Events of a training run, for whoever shows them."""

from __future__ import annotations

from pathlib import Path


class TrainingListener:
    """Receiver of a training run's events; this base class ignores them."""

    def stepped(self, seen: int, images: int) -> None:
        """Receive the progress after a step, and once before the first one.

        Args:
            seen: images seen, those of earlier runs from the same folder included.
            images: length of the schedule.
        """

    def logged(self, line: str) -> None:
        """Receive a line of the loss log."""

    def sampled(self, path: Path) -> None:
        """Receive the path of a new grid of sample pictures."""

    def is_stopping(self) -> bool:
        """Whether the run is to write a checkpoint and end after this step."""
        return False
