"""Handling of SIGTERM, which schedulers and clusters send to end a job, like Ctrl-C."""

from __future__ import annotations

import signal

from restyle.jobs.display.progress import ProgressDisplay
from restyle.pipeline.listener import Progress


class EndableDisplay(ProgressDisplay):
    """A progress display that makes SIGTERM end the run like Ctrl-C, so that it can be continued.

    For use in the main thread. Ray installs its own handler at its start, which would end the
    process at once. So the handler is installed again with every progress event, the first of which
    comes before the workers start.
    """

    def __enter__(self) -> EndableDisplay:
        _listen()
        super().__enter__()
        return self

    def advanced(self, progress: Progress) -> None:
        """Show the progress."""
        _listen()
        super().advanced(progress)


def _listen() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
