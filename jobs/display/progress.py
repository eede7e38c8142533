"""Progress of a run in the terminal."""

from __future__ import annotations

import time
from dataclasses import replace

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from restyle.core.shown_text import plural
from restyle.jobs.display.bar import BarDisplay
from restyle.jobs.display.time_left import TimeLeft
from restyle.pipeline.listener import Listener, Progress

# Seconds between lines without a terminal.
_LINE_EVERY = 10.0


class _Count(MofNCompleteColumn):
    """``120/5000``; empty while the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


class ProgressDisplay(BarDisplay, Listener):
    """A progress bar on a terminal, or a line every few seconds. A context manager.

    Args:
        console: for standard error.
        doing: the activity, in one word.
        pictures: number of pictures made of each input, which are counted in its place; None to
            count inputs.
    """

    def __init__(
        self, console: Console, doing: str = "inverting", pictures: int | None = None
    ) -> None:
        super().__init__(
            console,
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            _Count(),
            TextColumn("{task.fields[figures]}"),
        )
        self._doing = doing
        self._each = pictures or 1
        self._noun = "input" if pictures is None else "picture"
        self._listing: TaskID | None = None
        self._last_line = time.monotonic()
        self._time_left = TimeLeft()

    def noted(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, soft_wrap=True)

    def listed(self, inputs: int) -> None:
        """Show the number of inputs found."""
        if self._bar is not None:
            if self._listing is None:
                self._listing = self._bar.add_task("listing", total=None, figures="")
            self._bar.update(self._listing, completed=inputs, figures=plural(inputs, "input"))
        elif time.monotonic() - self._last_line >= _LINE_EVERY:
            self._last_line = time.monotonic()
            self.noted(f"{plural(inputs, 'input')} found so far")

    def advanced(self, progress: Progress) -> None:
        """Show the progress."""
        progress = replace(
            progress, done=progress.done * self._each, total=progress.total * self._each
        )
        noun = "image" if self._noun == "input" else self._noun
        figures = describe(progress, self._time_left, noun)
        if self._bar is not None:
            if self._listing is not None:
                self._bar.remove_task(self._listing)
                self._listing = None
            if self._task is None:
                self._task = self._bar.add_task(
                    self._doing if progress.done else "starting workers",
                    total=progress.total,
                    figures="",
                )
            self._bar.update(
                self._task,
                completed=progress.done,
                description=self._doing if progress.done else "starting workers",
                figures=figures,
            )
        elif progress.done and time.monotonic() - self._last_line >= _LINE_EVERY:
            self._last_line = time.monotonic()
            self.noted(f"{progress.done}/{plural(progress.total, self._noun)}, {figures}")


def describe(progress: Progress, time_left: TimeLeft | None = None, noun: str = "image") -> str:
    """Describe progress, such as ``3.1 images/s, 0:42 left, 2 rejects``.

    Args:
        progress: of a run.
        time_left: takes in the progress; without it the time follows from the whole run's rate.
        noun: what is counted.
    """
    parts = []
    if progress.done and progress.seconds > 0:
        rate = progress.done / progress.seconds
        parts.append(f"{rate:.3g} {noun}s/s")
        left = (
            (progress.total - progress.done) / rate
            if time_left is None
            else time_left.update(progress.done, progress.total, progress.seconds)
        )
        if left is not None:
            parts.append(f"{duration(left)} left")
    if progress.rejects:
        parts.append(plural(progress.rejects, "reject"))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format seconds as ``0:07``, ``12:30`` or ``3:05:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
