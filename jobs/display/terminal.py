"""All output to the terminal, with foreign text escaped.

No other module of the command line prints, which ``tests/jobs/display/test_terminal.py`` enforces.
So callers may pass names of files, columns and models, messages of servers and content of outputs
without escaping.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import typer

from restyle.core.shown_text import decodable, visible, visible_lines
from restyle.jobs.display.streams import open_error_stream
from restyle.pipeline.listener import Listener

if TYPE_CHECKING:
    from rich.console import Console


class SaidNotes(Listener):
    """Says the notes of a command without a progress display on standard error."""

    def noted(self, line: str) -> None:
        """Say a note."""
        say(line, error=True)


def say(text: object, *, error: bool = False) -> None:
    """Print one line for the user.

    Args:
        text: control characters and line feeds are escaped.
        error: print on standard error.
    """
    typer.echo(visible(str(text)), err=error)


def say_lines(text: str) -> None:
    """Print text of several lines without a final line feed, such as the log of a job."""
    typer.echo(visible_lines(text), nl=False)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table whose columns are as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def emit(text: str) -> None:
    """Print a line for a program: unchanged to a pipe or a file, escaped on a terminal."""
    typer.echo(visible(text) if sys.stdout.isatty() else decodable(text))


def emit_json(value: object) -> None:
    """Print a JSON document for a program; it must hold no number that JSON lacks."""
    text = json.dumps(value, indent=2, allow_nan=False)
    typer.echo(visible_lines(text) if sys.stdout.isatty() else text)


def console(file: TextIO | None = None, *, soft_wrap: bool = True) -> Console:
    """A console for tables and bars that prints strings literally, without markup and emoji.

    Args:
        file: output stream; standard output when None.
        soft_wrap: do not break lines that are wider than the terminal.
    """
    from rich.console import Console
    from rich.text import Text

    class VisibleConsole(Console):
        def render_str(self, text: str, **style: Any) -> Text:
            """Convert a string to text; called for all printed strings and cells."""
            return super().render_str(visible(text), **style)

    return VisibleConsole(
        file=file, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
    )


@contextlib.contextmanager
def error_console() -> Iterator[Console]:
    """A console on a copy of standard error, which is redirected while Ray starts."""
    with open_error_stream(os.dup(2)) as stream:
        yield console(stream, soft_wrap=False)
