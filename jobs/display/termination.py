"""SIGTERM, which schedulers and clusters send to end a job, taken as Ctrl-C."""

from __future__ import annotations

import signal

from restyle.jobs.display.progress import ProgressDisplay
from restyle.pipeline.listener import Progress


class EndableDisplay(ProgressDisplay):
    """Shows the progress of a run that SIGTERM ends as Ctrl-C does: recorded, and to be continued.

    Used in the main thread. Ray puts a handler of its own in place when it starts, which would end
    the process on the spot; so ours is put back with every sign of progress, the first of which
    comes before the workers do.
    """

    def __enter__(self) -> EndableDisplay:
        _listen()
        super().__enter__()
        return self

    def advanced(self, progress: Progress) -> None:
        """Draw how far the run is."""
        _listen()
        super().advanced(progress)


def _listen() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
