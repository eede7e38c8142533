"""Figures of a whole job from those of a sample's units, with 95% intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm, t

from restyle.core.metrics.bootstrap import LEVEL, Interval, over_images
from restyle.pipeline.estimation.sample_run import UnitCost

_TAIL = (1 - LEVEL) / 2

LEAST_UNITS = 4
"""Units of a sample below which no interval is told."""


def per_input(values: Iterable[float], units: Sequence[UnitCost]) -> Interval:
    """The mean per input of what units took, with an interval by the bootstrap over units.

    The percentiles are moved apart as Student's distribution is wider than the normal one, because
    the bootstrap of a few units is too narrow.

    Args:
        values: of each unit.
        units: the units.

    Returns:
        The interval is NaN where there are fewer than :data:`LEAST_UNITS`.
    """
    of_unit, images = np.array(list(values), float), np.array([unit.images for unit in units])
    value = float(of_unit.sum() / images.sum())
    count = len(units)
    if count < LEAST_UNITS:
        return Interval(value, math.nan, math.nan)
    if not of_unit.any():
        return Interval(0.0, 0.0, 0.0)
    found = over_images(count, lambda rows: float(of_unit[rows].sum() / images[rows].sum()))
    wider = t.ppf(1 - _TAIL, count - 1) / norm.ppf(1 - _TAIL) * math.sqrt(count / (count - 1))
    return Interval(
        value, max(0.0, value - wider * (value - found.low)), value + wider * (found.high - value)
    )


@dataclass(frozen=True)
class Scale:
    """The step from a sample to the whole.

    Attributes:
        inputs: number of inputs of the job.
        spread: its relative standard error.
        sampled: number of inputs of the sample.
    """

    inputs: float
    spread: float
    sampled: int

    @property
    def is_whole(self) -> bool:
        """Whether the sample is the whole."""
        return self.sampled >= self.inputs

    def total(self, mean: Interval, plus: float = 0.0) -> Interval:
        """The sum over all inputs, and a constant.

        Args:
            mean: per input.
            plus: the constant.
        """
        value = mean.value * self.inputs
        if math.isnan(mean.low) or not math.isfinite(self.spread):
            return Interval(plus + value, math.nan, math.nan)
        if not value:
            return Interval(plus, plus, plus + mean.high * self.inputs)
        spread = self.spread * float(norm.ppf(1 - _TAIL))
        below, above = (
            math.hypot((mean.value - end) / mean.value, spread) for end in (mean.low, mean.high)
        )
        return Interval(
            plus + value, plus + max(0.0, value * (1 - below)), plus + value * (1 + above)
        )

    def counted(self, mean: Interval) -> Interval:
        """The sum over all inputs of what no chance changes, if the sample is the whole."""
        found = self.total(mean)
        return Interval(found.value, found.value, found.value) if self.is_whole else found


def reject_counts(units: Sequence[UnitCost], scale: Scale) -> dict[str, Interval]:
    """Rejects of the whole by reason, with the exact interval of a share (Clopper, Pearson 1934).

    Args:
        units: of the sample.
        scale: from the sample to the whole.
    """
    counts: Counter[str] = Counter()
    for unit in units:
        counts.update(unit.rejects)
    return {
        reason: scale.counted(_share(count, scale.sampled))
        for reason, count in counts.most_common()
    }


def unseen(scale: Scale) -> float:
    """The most inputs, at 97.5%, of a kind that a sample has none of."""
    return 0.0 if scale.is_whole else scale.inputs * _share(0, scale.sampled).high


def _share(count: int, of: int) -> Interval:
    low = float(beta.ppf(_TAIL, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - _TAIL, count + 1, of - count)) if count < of else 1.0
    return Interval(count / of, low, high)
