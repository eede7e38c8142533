"""Handling of signals that end a job like Ctrl-C: SIGTERM of schedulers, SIGHUP of terminals."""

from __future__ import annotations

import signal
from typing import NoReturn

from restyle.jobs.display.progress import ProgressDisplay
from restyle.pipeline.listener import Progress


class EndableDisplay(ProgressDisplay):
    """A progress display that makes SIGTERM and SIGHUP end the run like Ctrl-C.

    So the run can be continued, its end is told, and no temporary folder is left. A SIGHUP that is
    ignored, as under nohup, stays ignored.

    For use in the main thread. Ray installs its own handler at its start, which would end the
    process at once. So the handlers are installed again with every progress event, the first of
    which comes before the workers start.
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
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _hung_up)


def _hung_up(*_: object) -> NoReturn:
    # A terminal's end is told by the kernel and by the shell; the second must not end the cleanup.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise KeyboardInterrupt
