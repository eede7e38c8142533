"""``restyle repair``: set aside damaged files of an output."""

from __future__ import annotations

from typing import Annotated

import typer

from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Written
from restyle.jobs.display.terminal import say


def repair(
    out: Written,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; otherwise it is only said what would be done.")
    ] = False,
) -> None:
    """Set aside damaged, duplicate and orphaned files, so that a run can complete OUT.

    Nothing is deleted: files are moved to OUT/_set-aside. The next restyle invert, or edit,
    computes the missing rows again. Exits with 1 if a repair is needed and was not made.
    """
    from restyle.pipeline.accounting.repair import repair as mend

    repaired = mend(out, apply=yes)
    for line in [*repaired.done, *repaired.left]:
        say(line)
    if not repaired.done:
        say("nothing else to repair" if repaired.left else "nothing to repair")
    elif yes:
        say(f"{plural(len(repaired.done), 'change')}; what was set aside is in {repaired.folder}")
        say("run the command again that made OUT, and restyle verify after it")
    else:
        say(f"{plural(len(repaired.done), 'change')} would be made; restyle repair --yes does so")
        raise typer.Exit(1)
