"""The curve of quality against time: a point for each step of each method.

As figure 4 of the ReStyle paper (Alaluf et al., 2104.02699).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from restyle.core.metrics.bootstrap import of_mean
from restyle.core.shown_text import plural
from restyle.pipeline.evaluation.comparison import nullable_table
from restyle.pipeline.evaluation.measured import Measured
from restyle.pipeline.report.curves import round_values, text, tick_text

WIDTH, HEIGHT = 420, 280
LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 14, 40


@dataclass(frozen=True)
class Point:
    """A method after one of its steps.

    Attributes:
        method: as asked for.
        model: name of the model.
        line: what it is drawn with: method without its number, and model.
        step: 1 for the first.
        name: of the step, for readers.
        seconds: an image, until the end of the step.
        metric: name of the metric.
        mean: of it.
        low: lower end of the mean's interval.
        high: its upper end.
    """

    method: str
    model: str
    line: str
    step: int
    name: str
    seconds: float
    metric: str
    mean: float
    low: float
    high: float


SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("model", pa.string()),
        ("step", pa.int64()),
        ("name", pa.string()),
        ("seconds", pa.float64()),
        ("metric", pa.string()),
        ("mean", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ],
    {"restyle.table": "evaluation-curve"},
)


def points_of(measured: Sequence[Measured]) -> list[Point]:
    """Points of all methods, by metric; without faces that have no value."""
    points = []
    for each in measured:
        for name, values in each.steps.items():
            for step in range(values.shape[1]):
                found = values[np.isfinite(values[:, step]), step]
                if not found.size:
                    continue
                mean = of_mean(found)
                points.append(
                    Point(
                        str(each.contender.method),
                        each.contender.model,
                        f"{each.contender.method.family}, {each.contender.model}",
                        step + 1,
                        step_name(each, step + 1),
                        each.seconds[step],
                        name,
                        mean.value,
                        mean.low,
                        mean.high,
                    )
                )
    return points


def step_name(each: Measured, step: int) -> str:
    """Name of a step for readers: ``step 3``, or ``50 of polish``."""
    settings = each.settings
    if step <= settings.steps:
        return f"step {step}"
    return f"{each.contender.method}"


def as_table(points: Sequence[Point]) -> pa.Table:
    """The points as Arrow; what is NaN is null."""
    return nullable_table(points, SCHEMA)


@dataclass(frozen=True)
class Mark:
    """A point in the drawing, with what is said about it."""

    x: float
    y: float
    said: str


@dataclass(frozen=True)
class Line:
    """A method's points in the drawing.

    Attributes:
        name: of the method, and of its model.
        number: of its colour and mark.
        points: of the SVG polyline.
        marks: its points.
    """

    name: str
    number: int
    points: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Drawing:
    """Positions in a picture of ``WIDTH`` x ``HEIGHT`` units.

    Attributes:
        metric: name of the metric.
        lines: of the methods.
        x_ticks: x and label of the seconds.
        y_ticks: y and label of the values.
    """

    metric: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def draw(points: Sequence[Point], metric: str, lines: Sequence[str]) -> Drawing:
    """Lay out one metric's curves over the seconds, which are logarithmic.

    Args:
        points: of all metrics.
        metric: the one to draw.
        lines: names of all lines, whose order gives their colours.
    """
    shown = [point for point in points if point.metric == metric and point.seconds > 0]
    values = [point.mean for point in shown]
    ticks = round_values(min(values), max(values))
    bottom, top = min(*values, ticks[0]), max(*values, ticks[-1])
    times = [math.log10(point.seconds) for point in shown]
    first, last = min(times) - 0.08, max(times) + 0.08

    def x(log: float) -> float:
        return round(LEFT + (log - first) / (last - first) * (WIDTH - LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        share = (value - bottom) / (top - bottom)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    drawn = []
    for number, name in enumerate(lines):
        own = sorted(
            (point for point in shown if point.line == name), key=lambda point: point.seconds
        )
        marks = tuple(
            Mark(
                x(math.log10(point.seconds)),
                y(point.mean),
                f"{point.method}, {point.name}: {text(point.mean)} "
                f"({text(point.low)} to {text(point.high)}) after {text(point.seconds)} s",
            )
            for point in own
        )
        if marks:
            drawn.append(
                Line(name, number, " ".join(f"{mark.x},{mark.y}" for mark in marks), marks)
            )
    return Drawing(
        metric,
        tuple(drawn),
        tuple((x(math.log10(value)), f"{value:g}") for value in _decades(first, last)),
        tuple((y(value), tick_text(value, ticks)) for value in ticks),
    )


def _decades(first: float, last: float) -> list[float]:
    """Round values between two logarithms: 1, 2 and 5 of each decade, or only the decades."""
    wide = last - first > 2
    found = [
        factor * 10.0**power
        for power in range(math.floor(first), math.ceil(last) + 1)
        for factor in ((1,) if wide else (1, 2, 5))
    ]
    return [round(value, 12) for value in found if first <= math.log10(value) <= last]


def described(line: Line) -> str:
    """What a reader who does not see the drawing is told of a line."""
    return f"{line.name}, {plural(len(line.marks), 'point')}: " + "; ".join(
        mark.said for mark in line.marks
    )
