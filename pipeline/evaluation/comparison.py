"""The table of an evaluation: means with intervals, and differences with the images kept together.

Every row is one measure of one method. What it is compared with is the first method; the difference
is taken on each image before it is averaged, so that how hard an image is cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.core.metrics.bootstrap import LEVEL, RESAMPLES, of_mean
from restyle.core.metrics.registry import find_metric
from restyle.pipeline.evaluation.measured import DISTANCE, Measured

Floats = npt.NDArray[np.float64]

SECONDS, FRECHET = "seconds", "frechet"


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes:
        name: of the measure.
        title: for readers.
        unit: short description of the values.
        better: ``lower`` or ``higher``; empty where neither is.
    """

    name: str
    title: str
    unit: str
    better: str


_OWN = {
    DISTANCE: Measure(
        DISTANCE, "distance from W", "of a latent's styles from each other, mean", "lower"
    ),
    SECONDS: Measure(SECONDS, "seconds", "an image, in this evaluation", "lower"),
    FRECHET: Measure(FRECHET, "Fréchet", "distance of the sets of pictures", "lower"),
    "strength": Measure("strength", "strength", "of the edit", ""),
    "change": Measure("change", "change", "of the attribute, measured", ""),
    "id_kept": Measure("id_kept", "identity kept", "against the unedited result", "higher"),
    "id_photograph": Measure(
        "id_photograph", "identity", "of the edit against the photograph", "higher"
    ),
}


def measure_named(name: str) -> Measure:
    """A measure by its name: a metric's, or one of the evaluation's own."""
    metric = find_metric(name)
    if name in _OWN or metric is None:
        return _OWN.get(name, Measure(name, name, "", ""))
    return Measure(name, metric.title, metric.unit, metric.better)


@dataclass(frozen=True)
class Row:
    """One measure of one method.

    Attributes:
        method: as asked for, such as ``hybrid:100``.
        model: name of the model.
        edit: the edit whose pictures are measured, such as ``smile +0.1``; empty for
            reconstructions.
        measure: name of the measure.
        better: ``lower`` or ``higher``; empty where neither is.
        faces: number of faces with a value.
        mean: over these, or the only value of all.
        median: over these; NaN where there is one value for all.
        low: lower end of the mean's interval; NaN without one.
        high: its upper end.
        difference: how much the mean is above the first method's, over the faces that both have a
            value for; NaN for the first method itself.
        difference_low: lower end of the difference's interval.
        difference_high: its upper end.
    """

    method: str
    model: str
    edit: str
    measure: str
    better: str
    faces: int
    mean: float
    median: float = math.nan
    low: float = math.nan
    high: float = math.nan
    difference: float = math.nan
    difference_low: float = math.nan
    difference_high: float = math.nan

    @property
    def stands_out(self) -> str:
        """``better`` or ``worse`` than the first method by more than chance; else empty."""
        if not self.better or not (self.difference_low > 0 or self.difference_high < 0):
            return ""
        return "better" if (self.difference > 0) == (self.better == "higher") else "worse"


_OPTIONAL = ("median", "low", "high", "difference", "difference_low", "difference_high")

SCHEMA = pa.schema(
    [
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in ("method", "model", "edit", "measure", "better")
        ),
        pa.field("faces", pa.int64(), nullable=False),
        pa.field("mean", pa.float64()),
        *(pa.field(name, pa.float64()) for name in _OPTIONAL),
    ],
    {
        "restyle.table": "evaluation",
        "restyle.interval": (
            f"bootstrap over images, percentiles, {LEVEL:.0%}, {RESAMPLES} resamples"
        ),
    },
)


def reconstruction_rows(measured: Sequence[Measured]) -> list[Row]:
    """Metrics, distance from W and seconds of all methods, the first of which is compared with."""
    rows = []
    first = measured[0]
    for each in measured:
        for name, values in each.values.items():
            against = None if each is first else first.values.get(name)
            rows.append(values_row(each, "", name, values, against))
        seconds = each.seconds[-1]
        gain = math.nan if each is first else seconds - first.seconds[-1]
        rows.append(single_row(each, "", SECONDS, seconds, gain))
    return rows


def values_row(each: Measured, edit: str, name: str, values: Floats, against: Floats | None) -> Row:
    """The row of a measure with a value for each face.

    Args:
        each: the method.
        edit: what is measured, see :class:`Row`.
        name: of the measure.
        values: [N], NaN where there is none.
        against: [N], the first method's values; None for the first method.
    """
    found = values[np.isfinite(values)]
    about = measure_named(name)
    label = (str(each.contender.method), each.contender.model, edit, name, about.better)
    if not found.size:
        return Row(*label, faces=0, mean=math.nan)
    mean = of_mean(found)
    row = Row(*label, len(found), mean.value, float(np.median(found)), mean.low, mean.high)
    if against is None:
        return row
    gains = (values - against)[np.isfinite(values) & np.isfinite(against)]
    if not gains.size:
        return row
    gain = of_mean(gains)
    return Row(
        *label,
        len(found),
        mean.value,
        row.median,
        mean.low,
        mean.high,
        gain.value,
        gain.low,
        gain.high,
    )


def single_row(each: Measured, edit: str, name: str, value: float, difference: float) -> Row:
    """The row of a measure with one value for all faces.

    Args:
        each: the method.
        edit: what is measured, see :class:`Row`.
        name: of the measure.
        value: of all faces.
        difference: from the first method's; NaN for the first method.
    """
    about = measure_named(name)
    label = (str(each.contender.method), each.contender.model, edit, name, about.better)
    return Row(*label, len(each.numbers), value, difference=difference)


def as_table(rows: Sequence[Row]) -> pa.Table:
    """The rows as Arrow; what is NaN is null."""
    return nullable_table(rows, SCHEMA)


def nullable_table(rows: Sequence[object], schema: pa.Schema) -> pa.Table:
    """Objects as Arrow, a column for each attribute that the schema names; NaN is null."""
    columns = {}
    for field in schema:
        values = [getattr(row, field.name) for row in rows]
        if pa.types.is_floating(field.type):
            values = [None if math.isnan(value) else value for value in values]
        columns[field.name] = values
    return pa.table(columns, schema=schema)
