"""95% intervals by the bootstrap over images: how far a figure depends on which were drawn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import DegenerateDataWarning, bootstrap

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RESAMPLES = 2_000
LEVEL = 0.95

# Of resampled values at once: 32 MB.
_BATCH = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A figure and where it lies for 95% of the resampled sets of images.

    Attributes:
        value: of the images as they are.
        low: the 2.5th percentile; NaN where some resample has no such figure.
        high: the 97.5th percentile; NaN likewise.
    """

    value: float
    low: float
    high: float

    def show(self, format_spec: str = "+.4f") -> str:
        """``-0.0034 (-0.0036 to -0.0032)``, every number by the same format."""
        if math.isnan(self.low):
            return f"{self.value:{format_spec}} (none)"
        return f"{self.value:{format_spec}} ({self.low:{format_spec}} to {self.high:{format_spec}})"


def over_images(count: int, statistic: Callable[[Rows], float], seed: int = 0) -> Interval:
    """Bootstrap a figure over images (Efron, 1979; percentiles).

    A resample takes every image with all that was measured on it, so what two methods made of one
    image stays together and its difficulty cancels out.

    Args:
        count: how many images there are.
        statistic: the figure of the images of the given rows [count], each any number of times.
        seed: of the resampling.
    """
    rows = np.arange(count)
    with warnings.catch_warnings():
        # NaN says it.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (rows,),
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(float(statistic(rows)), float(found.low), float(found.high))


def of_mean(values: Floats, seed: int = 0) -> Interval:
    """The mean of one value per image, as :func:`over_images` has it, in a fraction of the time.

    Args:
        values: [N]; the difference of two methods on each image keeps the images together.
        seed: of the resampling.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // len(values)),
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))
