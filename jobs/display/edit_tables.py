"""Table of an edit run's results for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from restyle.core.shown_text import plural

if TYPE_CHECKING:
    from restyle.pipeline.editing.settings import EditSettings
    from restyle.pipeline.editing.summary import EditSummary

_MOST_ROWS = 50


def show_edits(console: Console, settings: EditSettings, summary: EditSummary) -> None:
    """Print the mean effect of each edit on the faces of an output."""
    if summary.without_photo:
        console.print(
            f"{plural(summary.without_photo, 'face')} could not be put back into the photograph; "
            "the column photo_problem says why"
        )
    if summary.faces:
        console.print(_table(settings, summary))
    steady = summary.steadiness
    if steady is not None:
        console.print(
            f"{steady.attribute} rises with every step of the strength in {steady.rising:.1%} of "
            f"the {plural(steady.faces, 'face')} found at all strengths"
        )


def _table(settings: EditSettings, summary: EditSummary) -> Table:
    table = Table(box=None, pad_edge=False)
    for direction in settings.directions:
        table.add_column(direction.name, justify="right", no_wrap=True)
    table.add_column("identity kept", justify="right")
    for name in summary.changes:
        table.add_column(f"{name} change", justify="right")
    for row, strengths in enumerate(summary.combinations[:_MOST_ROWS]):
        changes = [_shown(values[row], "+.3f") for values in summary.changes.values()]
        kept = _shown(summary.identity[row], ".3f")
        table.add_row(*(f"{each:+g}" for each in strengths), kept, *changes)
    if len(summary.combinations) > _MOST_ROWS:
        table.add_row("...")
    return table


def _shown(mean: float, form: str) -> str:
    """Return a mean as the table has it: a dash where no face was found to measure."""
    return "-" if math.isnan(mean) else format(mean, form)
