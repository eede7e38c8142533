"""Progress of a training run in the terminal, and its end on Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

from restyle.core.training.listener import TrainingListener
from restyle.jobs.display.bar import BarDisplay
from restyle.jobs.display.progress import duration
from restyle.jobs.display.terminal import say
from restyle.jobs.display.time_left import TimeLeft

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingDisplay(BarDisplay, TrainingListener):
    """A bar on a terminal, and lines of losses and of sample grids. A context manager.

    The first Ctrl-C, or SIGTERM, ends the run after the step that is computed, with a checkpoint;
    the second one at once.

    Args:
        console: for standard error.
        is_gentle: whether a signal waits for the end of a step. With several processes it does
            not, because the others would wait for this one.
    """

    def __init__(self, console: Console, *, is_gentle: bool = True) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
        super().__init__(console, TextColumn("training"), *columns)
        self._is_gentle = is_gentle
        self._is_stopping = False
        self._time_left = TimeLeft()
        self._begun: tuple[float, int] | None = None
        self._figures = ""
        self.newest_grid: Path | None = None

    def __enter__(self) -> Self:
        for each in _SIGNALS:
            signal.signal(each, self._stop if self._is_gentle else signal.default_int_handler)
        return super().__enter__()

    def stepped(self, seen: int, images: int) -> None:
        """Show the progress."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = now, seen
        since, before = self._begun
        # Of this run alone: earlier ones had a speed of their own.
        left = self._time_left.update(seen - before, images - before, now - since)
        rate = (seen - before) / (now - since) if seen > before and now > since else None
        parts = [f"{rate:.3g} images/s"] if rate else []
        parts += [f"{duration(left)} left"] if left is not None else []
        self._figures = ", ".join(parts)
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("", total=images, figures="")
            self._bar.update(self._task, completed=seen, figures=self._figures)

    def logged(self, line: str) -> None:
        """Print the losses; without a bar, the time left behind them."""
        left = self._figures.rpartition(", ")[2]
        self._print(line if self._bar is not None or "left" not in left else f"{line}  {left}")

    def sampled(self, path: Path) -> None:
        """Print where the newest pictures are."""
        self.newest_grid = path
        self._print(f"samples {path}")

    def is_stopping(self) -> bool:
        """Whether a signal has come."""
        return self._is_stopping

    def _print(self, line: str) -> None:
        if self._bar is None:
            say(line)
        else:
            self._console.print(line, soft_wrap=True)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._is_stopping:
            raise KeyboardInterrupt
        self._is_stopping = True
        message = "ending after this step, with a checkpoint; Ctrl-C again ends at once"
        if self._bar is None:
            say(message, error=True)
        else:
            self._console.print(message, soft_wrap=True)
