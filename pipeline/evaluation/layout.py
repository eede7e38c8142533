"""The table laid out for readers: a row for each method, a column for each measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from restyle.pipeline.evaluation.comparison import Measure, Row, measure_named
from restyle.pipeline.report.curves import text


@dataclass(frozen=True)
class Cell:
    """One measure of one method as text; empty where there is none.

    Attributes:
        mean: the mean, or the value of all faces.
        interval: ``low to high``.
        median: over the faces.
        difference: from the first method, with its interval where there is one.
        stands_out: ``better`` or ``worse`` than the first method by more than chance.
        is_best: whether no method has a better mean.
    """

    mean: str = ""
    interval: str = ""
    median: str = ""
    difference: str = ""
    difference_interval: str = ""
    stands_out: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Line:
    """A method with its cells."""

    method: str
    model: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Grid:
    """Reconstructions, or the edits to one change, of all methods.

    Attributes:
        edit: the edit as in the table; empty for reconstructions.
        measures: of the columns.
        lines: of the methods, the first of which the others are compared with.
    """

    edit: str
    measures: tuple[Measure, ...]
    lines: tuple[Line, ...]


def grids_of(rows: Sequence[Row]) -> list[Grid]:
    """Lay out the table: reconstructions first, then each edit."""
    return [_grid(edit, [row for row in rows if row.edit == edit]) for edit in _first(rows)]


def _first(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.edit for row in rows))


def _grid(edit: str, rows: Sequence[Row]) -> Grid:
    names = list(dict.fromkeys(row.measure for row in rows))
    methods = list(dict.fromkeys((row.method, row.model) for row in rows))
    found = {(row.method, row.model, row.measure): row for row in rows}
    best = {name: _best([row for row in rows if row.measure == name]) for name in names}
    lines = [
        Line(
            method,
            model,
            tuple(
                _cell(row, row.mean == best[name]) if row else Cell()
                for name in names
                for row in [found.get((method, model, name))]
            ),
        )
        for method, model in methods
    ]
    return Grid(edit, tuple(map(measure_named, names)), tuple(lines))


def _best(rows: Sequence[Row]) -> float:
    """The best mean; NaN where there is none, or only one method."""
    means = [row.mean for row in rows if math.isfinite(row.mean)]
    if len(rows) < 2 or not means or not rows[0].better:
        return math.nan
    return max(means) if rows[0].better == "higher" else min(means)


def _cell(row: Row, is_best: bool) -> Cell:
    return Cell(
        mean=_number(row.mean),
        interval=_between(row.low, row.high),
        median=_number(row.median),
        difference=_signed(row.difference),
        difference_interval=_between(row.difference_low, row.difference_high, signed=True),
        stands_out=row.stands_out,
        is_best=is_best,
    )


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return ("\N{MINUS SIGN}" if value < 0 else "") + text(abs(value))


def _signed(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return ("\N{MINUS SIGN}" if value < 0 else "+" if value > 0 else "±") + text(abs(value))


def _between(low: float, high: float, *, signed: bool = False) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    show = _signed if signed else _number
    return f"{show(low)} to {show(high)}"
