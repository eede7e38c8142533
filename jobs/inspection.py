"""``restyle status`` and ``restyle verify``: looking at an output without computing anything."""

from __future__ import annotations

from typing import Annotated

import typer

Out = Annotated[
    str, typer.Argument(metavar="OUT", help="Where restyle invert wrote: a folder or a URI.")
]

_MOST_PROBLEMS = 50


def status(out: Out) -> None:
    """Say how far an output is."""
    from rich.console import Console

    from jobs.tables import show_summary
    from pipeline.status import read_status

    found = read_status(out)
    settings, summary = found.settings, found.summary
    state = "complete" if not summary.pending_images else "incomplete; the same command continues"
    lines = [
        ("state", state),
        ("model", f"{settings.model}, {settings.steps} steps, {settings.dtype}"),
    ]
    if found.run is not None:
        last = found.run.timings.finished or "not ended"
        lines.append(("last run", f"{found.run.state}, {found.run.timings.started} to {last}"))
        if found.run.error:
            lines.append(("error", found.run.error))
    lines.append(("report", found.report or "none yet"))
    show_summary(Console(soft_wrap=True), summary, lines)


def verify(out: Out) -> None:
    """Prove from the files alone that every input is accounted for exactly once."""
    from rich.console import Console
    from rich.markup import escape

    from pipeline.verify import verify as prove

    verdict = prove(out)
    console = Console(soft_wrap=True, highlight=False)
    for problem in verdict.problems[:_MOST_PROBLEMS]:
        console.print(escape(problem))
    if len(verdict.problems) > _MOST_PROBLEMS:
        console.print(f"and {len(verdict.problems) - _MOST_PROBLEMS} more")
    console.print(
        f"{verdict.images} inputs = {verdict.images - verdict.rejects} with faces "
        f"+ {verdict.rejects} rejects; {verdict.faces} faces, {verdict.units} units, "
        f"{verdict.size / 2**20:.1f} MiB read"
    )
    if verdict.problems:
        console.print(f"{len(verdict.problems)} problems")
        raise typer.Exit(1)
    console.print("clean")
