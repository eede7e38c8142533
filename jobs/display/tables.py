"""Table of an output's summary for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from restyle.pipeline.accounting.summary import worsened_shown

if TYPE_CHECKING:
    from restyle.pipeline.accounting.summary import Summary

_MOST_STEPS = 8
_CORNER = "mean per step"
_GAP = 2


def show_summary(console: Console, summary: Summary, lines: Sequence[tuple[str, str]]) -> None:
    """Print counts, rejects by reason, and means of metrics.

    Args:
        console: to print on.
        summary: of the output.
        lines: further names and values below the counts.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("inputs", f"{summary.done_images} of {summary.images} accounted for")
    table.add_row("faces", str(summary.faces))
    table.add_row("rejects", str(summary.rejected))
    for reason, count in summary.rejects.items():
        table.add_row(f"  {reason}", str(count))
    for name, value in lines:
        table.add_row(name, value)
    console.print(table)
    if summary.metrics and summary.faces:
        console.print()
        console.print(_metrics(summary.metrics, console.width))
    worse = worsened_shown(summary.worsened, summary.faces)
    if worse:
        console.print()
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in worse.items():
            table.add_row(f"{name} got worse", text)
        console.print(table)


def _metrics(means: dict[str, list[float | None]], width: int) -> Table:
    # In a narrow terminal fewer steps, since a column that does not fit would lose its numbers.
    widest = max(len(_number(value)) for values in means.values() for value in values)
    room = (width - max(map(len, (_CORNER, *means)))) // (widest + _GAP)
    steps = _shown_steps(max(map(len, means.values())), min(max(room, 1), _MOST_STEPS))
    table = Table(box=None, pad_edge=False)
    table.add_column(_CORNER, no_wrap=True)
    for step in steps:
        table.add_column(str(step), justify="right")
    for name, values in means.items():
        table.add_row(name, *(_number(values[step - 1]) for step in steps))
    return table


def _shown_steps(count: int, most: int) -> list[int]:
    """All steps, a uniform selection that includes the first and the last, or the last."""
    if count <= most:
        return list(range(1, count + 1))
    if most == 1:
        return [count]
    return [1 + round(index * (count - 1) / (most - 1)) for index in range(most)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
