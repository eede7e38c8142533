"""Curves of metrics over the refinement steps, and their layout in a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from restyle.core.metrics.registry import find_metric, title_of
from restyle.pipeline.ledger.datasets import metric_columns
from restyle.pipeline.ledger.entries import UnitRecord
from restyle.pipeline.ledger.parquet_files import (
    HasFiles,
    file_of,
    open_parquet,
    spread,
)

MAX_UNITS = 64
"""Maximum number of units to read; larger runs are sampled."""

WIDTH, HEIGHT = 320, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 30

_CHANGE = "delta"


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps.

    Attributes:
        name: of the column.
        steps: 1..N.
        middle: the median at each step, or the mean without quartiles.
        quartiles: first and third quartile at each step; None if only sums were saved.
        faces: number of faces.
    """

    name: str
    steps: tuple[int, ...]
    middle: tuple[float, ...]
    quartiles: tuple[tuple[float, float], ...] | None
    faces: int

    @property
    def title(self) -> str:
        """Title in the report."""
        title = "change" if self.name == _CHANGE else title_of(self.name)
        return title[:1].upper() + title[1:]

    @property
    def unit(self) -> str:
        """Description of the values."""
        if self.name == _CHANGE:
            return "mean change against the step before"
        metric = find_metric(self.name)
        return self.name if metric is None else metric.unit

    @property
    def direction(self) -> str:
        """``lower is better`` or ``higher is better``; empty for the change."""
        metric = find_metric(self.name)
        return "" if metric is None else f"{metric.better} is better"


@dataclass(frozen=True)
class Drawing:
    """Positions of a curve in a picture of ``WIDTH`` x ``HEIGHT`` units.

    Attributes:
        line: SVG points of the middle.
        band: SVG points around the quartiles; empty without them.
        dots: x, y, number and value as text of each step.
        y_ticks: y and label of each horizontal rule.
        x_ticks: x and number of the labelled steps.
    """

    line: str
    band: str
    dots: tuple[tuple[float, float, int, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, int], ...]


def read_curves(
    out: str,
    records: Sequence[UnitRecord],
    steps: int,
    files: Sequence[HasFiles] | None = None,
) -> list[Curve]:
    """Curves of all computed metrics and of the change.

    Reads ``steps/`` of at most :data:`MAX_UNITS` units. Without saved steps the curves are means
    from the ledger.

    Args:
        out: the output, a path or any fsspec URI.
        records: of the committed units.
        steps: refinement steps of each face.
        files: files of these units' rows; the units' own files when None.

    Raises:
        FatalError: a file is damaged or missing.
    """
    owners = records if files is None else files
    names = [file[0] for owner in owners if (file := file_of(owner, "steps"))]
    if not names:
        return _mean_curves(records)
    parts: dict[str, list[npt.NDArray[np.float64]]] = {}
    for name in spread(names, MAX_UNITS):
        with open_parquet(out, name) as parquet:
            columns = ["step", *metric_columns(parquet.schema_arrow), _CHANGE]
            table = parquet.read(columns, use_threads=False)
        for column in columns:
            values = table[column].to_numpy(zero_copy_only=False)
            parts.setdefault(column, []).append(np.asarray(values, dtype=np.float64))
    joined = {name: np.concatenate(part) for name, part in parts.items()}
    taken = joined["step"]
    rows, later = _with_last_values(taken, steps)
    curves = [
        _quartile_curve(name, later, joined[name][rows], steps)
        for name in joined
        if name not in ("step", _CHANGE)
    ]
    curves.append(_quartile_curve(_CHANGE, taken, joined[_CHANGE], steps))
    return [curve for curve in curves if curve is not None]


def _with_last_values(
    step: npt.NDArray[np.float64], steps: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Row indices and step numbers for all steps of all faces, repeating a face's last step.

    Without the repetition, later steps would only have faces that are hard to invert.
    """
    ends = np.flatnonzero(np.append(step[1:] <= step[:-1], True)) if step.size else step[:0]
    ends = ends.astype(np.intp)
    missing = (steps - step[ends]).astype(np.intp)
    extra = [np.arange(steps - count + 1, steps + 1) for count in missing if count > 0]
    rows = np.concatenate([np.arange(step.size), np.repeat(ends, missing.clip(0))])
    return rows.astype(np.intp), np.concatenate([step, *extra])


def draw(curve: Curve) -> Drawing:
    """Compute the layout of a curve between rules at round values."""
    low = min(curve.middle if curve.quartiles is None else (q[0] for q in curve.quartiles))
    high = max(curve.middle if curve.quartiles is None else (q[1] for q in curve.quartiles))
    ticks = round_values(low, high)
    bottom, top = min(low, ticks[0]), max(high, ticks[-1])

    def x(index: int) -> float:
        share = index / (len(curve.steps) - 1) if len(curve.steps) > 1 else 0.5
        return round(_LEFT + 8 + share * (WIDTH - _LEFT - _RIGHT - 16), 1)

    def y(value: float) -> float:
        share = (value - bottom) / (top - bottom)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    band = ""
    if curve.quartiles is not None:
        edge = [(x(i), y(q[1])) for i, q in enumerate(curve.quartiles)]
        edge += [(x(i), y(q[0])) for i, q in reversed(list(enumerate(curve.quartiles)))]
        band = " ".join(f"{px},{py}" for px, py in edge)
    dots = tuple(
        (x(index), y(value), step, text(value))
        for index, (step, value) in enumerate(zip(curve.steps, curve.middle, strict=True))
    )
    every = math.ceil(len(curve.steps) / 10)
    return Drawing(
        line=" ".join(f"{px},{py}" for px, py, _, _ in dots),
        band=band,
        dots=dots,
        y_ticks=tuple((y(value), tick_text(value, ticks)) for value in ticks),
        x_ticks=tuple((px, step) for px, _, step, _ in dots[::every]),
    )


def text(value: float) -> str:
    """Format a number with three significant digits, preferably without an exponent."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "n/a"
    if abs(value) < 1e-5 or abs(value) >= 1e7:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _quartile_curve(
    name: str,
    step: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    steps: int,
) -> Curve | None:
    """Median and quartiles over faces with finite values; None without any."""
    finite = np.isfinite(values)
    numbers, middle, quartiles = [], [], []
    for number in range(1, steps + 1):
        chosen = values[finite & (step == number)]
        if chosen.size:
            first, half, third = (float(q) for q in np.quantile(chosen, (0.25, 0.5, 0.75)))
            numbers.append(number)
            middle.append(half)
            quartiles.append((first, third))
    if not numbers:
        return None
    faces = int(np.count_nonzero(finite & (step == numbers[-1])))
    return Curve(name, tuple(numbers), tuple(middle), tuple(quartiles), faces)


def _mean_curves(records: Sequence[UnitRecord]) -> list[Curve]:
    curves = []
    for name in dict.fromkeys(name for record in records for name in record.metrics):
        sums = [record.metrics[name] for record in records if name in record.metrics]
        length = max((len(part.total) for part in sums), default=0)
        total, count = np.zeros(length), np.zeros(length)
        for part in sums:
            total[: len(part.total)] += part.total
            count[: len(part.count)] += part.count
        numbers = [int(index) + 1 for index in np.flatnonzero(count)]
        if numbers:
            means = tuple(float(total[number - 1] / count[number - 1]) for number in numbers)
            faces = int(count[numbers[-1] - 1])
            curves.append(Curve(name, tuple(numbers), means, None, faces))
    return curves


def round_values(low: float, high: float) -> list[float]:
    """Return three to six round values that enclose a range."""
    span = high - low
    if span <= 1e-12 * max(abs(low), abs(high), 1e-6):
        span = max(abs(high) * 0.1, 1e-6)
        low, high = low - span / 2, high + span / 2
    rough = span / 3
    unit = 10.0 ** math.floor(math.log10(rough))
    width = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    return [index * width for index in range(first, last + 1)]


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """Format one of several ticks with as many decimals as their distance needs."""
    width = ticks[1] - ticks[0]
    digits = 0
    while digits < 12 and abs(round(width, digits) - width) > width * 1e-6:
        digits += 1
    return f"{value:.{digits}f}" if width >= 1e-5 else f"{value:.1e}"
