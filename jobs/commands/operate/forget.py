"""``restyle forget``: remove inputs from an output and all that was made of it, for good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restyle.core.errors import SpecError
from restyle.core.files import read_text
from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import SaidNotes, say

_MOST_NAMED = 20


def forget(
    out: Out,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="An input, as its column source has it, as a path, by its last part, or as a "
            "pattern; may be given several times.",
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            "--list", metavar="FILE", help="A text file with one name a line.", show_default=False
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Edits or an export of OUT that lie elsewhere than where they were made.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; otherwise it is only said what would be removed.")
    ] = False,
) -> None:
    """Remove inputs, with all rows and pictures, from OUT, its edits, exports, records and logs.

    A tombstone without names keeps them from coming back. What was killed half-way is finished by
    restyle forget OUT --yes. Exits with 1 if the search of all bytes at the end finds anything.
    """
    from restyle.pipeline.forgetting.forget import forget as remove

    sources = [*(source or ()), *_listed(names)]
    done = remove(out, sources, also or (), apply=yes, listener=SaidNotes())
    if not yes:
        for name in done.sources[:_MOST_NAMED]:
            say(name)
        if len(done.sources) > _MOST_NAMED:
            say(f"and {len(done.sources) - _MOST_NAMED} more")
        asked = plural(done.inputs, "input")
        say(f"{asked} would be forgotten; the same command with --yes does so")
        raise typer.Exit(1 if done.inputs else 0)
    for line in done.searched.found:
        say(line)
    say(
        f"{plural(done.inputs, 'input')} forgotten; "
        f"{plural(done.searched.files, 'file')} searched, {done.searched.size / 2**20:.1f} MiB: "
        + (f"{plural(len(done.searched.found), 'place')} left" if done.searched.found else "clean")
    )
    if done.searched.found:
        raise typer.Exit(1)


def _listed(names: Path | None) -> list[str]:
    if names is None:
        return []
    found = [line for line in read_text(names).splitlines() if line.strip()]
    if not found:
        raise SpecError(f"{names} names nothing")
    return found
