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
        console.print(_metrics(summary.metrics))
    worse = worsened_shown(summary.worsened, summary.faces)
    if worse:
        console.print()
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in worse.items():
            table.add_row(f"{name} got worse", text)
        console.print(table)


def _metrics(means: dict[str, list[float | None]]) -> Table:
    steps = _shown_steps(max(len(values) for values in means.values()))
    table = Table(box=None, pad_edge=False)
    table.add_column("mean per step", no_wrap=True)
    for step in steps:
        table.add_column(str(step), justify="right")
    for name, values in means.items():
        table.add_row(name, *(_number(values[step - 1]) for step in steps))
    return table


def _shown_steps(count: int) -> list[int]:
    """All steps, or a uniform selection that includes the first and the last."""
    if count <= _MOST_STEPS:
        return list(range(1, count + 1))
    last = _MOST_STEPS - 1
    return [1 + round(index * (count - 1) / last) for index in range(_MOST_STEPS)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
