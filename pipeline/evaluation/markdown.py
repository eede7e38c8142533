"""The table as Markdown, which the terminal shows too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from restyle.core.metrics.bootstrap import LEVEL
from restyle.core.shown_text import plural, visible
from restyle.pipeline.evaluation.comparison import Row
from restyle.pipeline.evaluation.layout import Cell, Grid, grids_of

_ARROWS = {"lower": " ↓", "higher": " ↑", "": ""}


def markdown_of(rows: Sequence[Row], faces: int, notes: Sequence[str]) -> str:
    """The whole table, with a heading for the reconstructions and for each edit.

    Args:
        rows: of the table.
        faces: number of compared faces.
        notes: remarks, which stand below.
    """
    parts = []
    for grid in grids_of(rows):
        name = grid.edit or "Reconstructions"
        parts.append(f"## {visible(name)}, {plural(faces, 'face')}")
        parts.append(f"Mean ({LEVEL:.0%} interval), median.")
        parts.append(_table(grid, _value))
        if len(grid.lines) > 1:
            first = grid.lines[0]
            parts.append(
                f"Difference from {_code(first.method)}, {_code(first.model)}, with the images "
                "kept together; bold where the interval does not hold 0."
            )
            parts.append(_table(grid, _difference, 1))
    parts += [f"- {visible(note)}" for note in notes]
    return "\n\n".join(parts) + "\n"


def _table(grid: Grid, show: Callable[[Cell], str], skip: int = 0) -> str:
    columns = [
        index
        for index in range(len(grid.measures))
        if any(show(line.cells[index]) for line in grid.lines[skip:])
    ]
    head = ["method", "model"]
    head += [grid.measures[i].title + _ARROWS[grid.measures[i].better] for i in columns]
    lines = [head, ["---", "---", *["---:"] * len(columns)]]
    for line in grid.lines[skip:]:
        cells = [show(line.cells[index]) for index in columns]
        lines.append([_code(line.method), _code(line.model), *cells])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _value(cell: Cell) -> str:
    interval = f" ({cell.interval})" if cell.interval else ""
    median = f", {cell.median}" if cell.median else ""
    return f"{cell.mean}{interval}{median}"


def _difference(cell: Cell) -> str:
    interval = f" ({cell.difference_interval})" if cell.difference_interval else ""
    shown = f"{cell.difference}{interval}"
    return f"**{shown}**" if cell.stands_out else shown


def _code(name: str) -> str:
    # A vertical bar would end the cell, and a backtick the code.
    return "`" + visible(name).replace("`", "'").replace("|", "\\|") + "`"
