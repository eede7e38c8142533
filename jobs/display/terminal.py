"""What is written to the terminal: the one way there, on which foreign text is made visible.

Nothing else of the command line prints; ``tests/jobs/display/test_terminal.py`` looks for what
does. Names of files, columns and models, messages of servers and what an output says of itself
may therefore be handed over as they are.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

import typer

from restyle.core.shown_text import decodable, visible, visible_lines
from restyle.jobs.display.streams import open_error_stream

if TYPE_CHECKING:
    from rich.console import Console


def say(text: object, *, error: bool = False) -> None:
    """Print one line for a person.

    Args:
        text: what has control characters or line feeds gets them as escapes.
        error: on standard error instead of standard output.
    """
    typer.echo(visible(str(text)), err=error)


def say_lines(text: str) -> None:
    """Print text of several lines as it goes on, such as the log of a job."""
    typer.echo(visible_lines(text), nl=False)


def emit(text: str) -> None:
    """Print a line for a program: unchanged into a pipe or a file, visible on a terminal."""
    typer.echo(visible(text) if sys.stdout.isatty() else decodable(text))


def console(file: TextIO | None = None, *, soft_wrap: bool = True) -> Console:
    """A console for tables and bars, which shows every string as it is: no markup, no emoji.

    Args:
        file: to write to in place of standard output.
        soft_wrap: leave lines whole that are wider than the terminal.
    """
    from rich.console import Console
    from rich.text import Text

    class VisibleConsole(Console):
        def render_str(self, text: str, **style: Any) -> Text:
            """Make a string a text; every string that is printed or stands in a table comes by."""
            return super().render_str(visible(text), **style)

    return VisibleConsole(
        file=file, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
    )


@contextlib.contextmanager
def error_console() -> Iterator[Console]:
    """A console on a copy of standard error, which Ray closes for a moment while it starts."""
    with open_error_stream(os.dup(2)) as stream:
        yield console(stream, soft_wrap=False)
