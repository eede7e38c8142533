"""``restyle status`` and ``restyle verify``: inspect an output without computing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restyle.core.shown_text import plural
from restyle.jobs.display.terminal import console, say

if TYPE_CHECKING:
    from restyle.pipeline.ledger.output import Output
    from restyle.pipeline.ledger.settings import Settings

Out = Annotated[
    str, typer.Argument(metavar="OUT", help="Where restyle invert wrote: a folder or a URI.")
]
Written = Annotated[
    str,
    typer.Argument(
        metavar="OUT", help="Where restyle invert or restyle edit wrote: a folder or a URI."
    ),
]

_MOST_PROBLEMS = 50


def status(out: Written) -> None:
    """Show the progress of an output."""
    from restyle.jobs.display.tables import show_summary
    from restyle.pipeline.accounting.operation import bound_to
    from restyle.pipeline.accounting.status import read_status
    from restyle.pipeline.ledger.output import Output

    output = Output.at(out)
    bound = bound_to(output.storage)
    if bound is not None and bound[0].name != "inversion":
        _show_other(output, bound[1])
        return
    found = read_status(out)
    settings, summary = found.settings, found.summary
    state = "complete" if not summary.pending_images else "incomplete; the same command continues"
    lines = [
        ("state", f"damaged: {found.damage}" if found.damage else state),
        ("model", f"{settings.model}, {plural(settings.steps, 'step')}, {settings.dtype}"),
    ]
    if found.run is not None:
        last = found.run.timings.finished or "not ended"
        lines.append(("last run", f"{found.run.state}, {found.run.timings.started} to {last}"))
        if found.run.error:
            lines.append(("error", found.run.error))
    lines.append(("report", found.report or "none yet"))
    show_summary(console(), summary, lines)


def _show_other(output: Output, settings: Settings) -> None:
    """Print the progress of an output of another operation than inversion."""
    from restyle.jobs.display.edit_tables import show_edits
    from restyle.pipeline.accounting.findings import check_units, lost_files
    from restyle.pipeline.editing.settings import EditSettings
    from restyle.pipeline.editing.summary import summarise

    check_units(output)
    units, done = output.manifest.units, output.entries.units
    damage = lost_files(output)
    pending = sum(unit.images for unit in units if unit.name not in done)
    total = sum(unit.images for unit in units)
    state = "complete" if not pending else "incomplete; the same command continues"
    state = f"damaged: {damage}" if damage else state
    is_edits = isinstance(settings, EditSettings)
    say(f"state       {state}")
    say(
        f"{'photographs' if is_edits else 'inputs     '} {total - pending} of {total} accounted for"
    )
    if isinstance(settings, EditSettings):
        say(f"model       {settings.model}")
        summary = summarise(output.records(), settings)
        say(f"faces       {summary.faces}, {plural(len(summary.combinations), 'edit')} each")
        show_edits(console(), settings, summary)


def verify(out: Written) -> None:
    """Verify from the files alone that every input is accounted for exactly once."""
    from restyle.pipeline.accounting.verify import verify as prove
    from restyle.pipeline.storage.addresses import shown_uri

    proof = prove(out)
    for problem in proof.problems[:_MOST_PROBLEMS]:
        say(problem)
    if len(proof.problems) > _MOST_PROBLEMS:
        say(f"and {len(proof.problems) - _MOST_PROBLEMS} more")
    say(
        f"{plural(proof.images, 'input')} = {proof.images - proof.rejects:,} with faces "
        f"+ {plural(proof.rejects, 'reject')}; {plural(proof.faces, 'face')}, "
        f"{plural(proof.units, 'unit')}, "
        f"{proof.size / 2**20:.1f} MiB read"
    )
    if proof.problems:
        say(
            f"{plural(len(proof.problems), 'problem')}; `restyle repair {shown_uri(out)}` says "
            "what can be done, and the command that made the output does again what is lost"
        )
        raise typer.Exit(1)
    say("clean")
