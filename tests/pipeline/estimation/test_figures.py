"""Figures of a whole from those of a sample, against what statistics has for them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from restyle.core.metrics.bootstrap import Interval
from restyle.pipeline.estimation.figures import Scale, per_input, reject_counts, unseen
from restyle.pipeline.estimation.sample_run import UnitCost


def unit(images: int = 4, faces: int = 4, **rejects: int) -> UnitCost:
    return UnitCost(images, faces, rejects, align=1.0, invert=2.0, files={}, entry=100)


@pytest.mark.parametrize("count", [4, 8, 30])
def test_an_interval_covers_the_truth_as_often_as_it_says(count: int) -> None:
    random = np.random.default_rng(count)
    units = [unit()] * count
    covered = 0
    for _ in range(60):
        found = per_input(random.gamma(4.0, 2.0, count), units)
        covered += found.low <= 8.0 / 4 <= found.high
    # 95% of 60 are 57, and fewer than 50 in one of ten thousand.
    assert covered >= 50


def test_a_mean_weighs_inputs_and_not_units() -> None:
    units = [unit(images=1), unit(images=9), unit(images=1), unit(images=9)]
    assert per_input([1.0, 18.0, 1.0, 18.0], units).value == pytest.approx(38 / 20)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_units_tell_no_interval(count: int) -> None:
    found = per_input([1.0] * count, [unit()] * count)
    assert found.value == 0.25
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_sum_has_the_errors_of_the_mean_and_of_the_number_of_inputs() -> None:
    mean = Interval(2.0, 1.8, 2.4)
    exact = Scale(100, 0.0, 10).total(mean, plus=5.0)
    assert (exact.value, exact.low, exact.high) == pytest.approx((205.0, 185.0, 245.0))
    unsure = Scale(100, 0.1, 10).total(mean)
    # 10% below and 20% above, and 1.96 * 10% of the number, at right angles.
    assert unsure.low == pytest.approx(200 * (1 - math.hypot(0.1, 0.19600)), rel=1e-4)
    assert unsure.high == pytest.approx(200 * (1 + math.hypot(0.2, 0.19600)), rel=1e-4)
    assert math.isnan(Scale(100, math.inf, 10).total(mean).low)
    assert math.isnan(Scale(100, 0.0, 10).total(Interval(1.0, math.nan, math.nan)).high)


@pytest.mark.parametrize(
    ("rejected", "of", "low", "high"),
    # Tables of the exact interval (Clopper and Pearson).
    [(5, 10, 0.1871, 0.8129), (1, 20, 0.0013, 0.2487), (8, 8, 0.6306, 1.0)],
)
def test_rejects_have_the_exact_interval_of_a_share(
    rejected: int, of: int, low: float, high: float
) -> None:
    units = [unit(images=of, faces=of - rejected, no_face=rejected)]
    found = reject_counts(units, Scale(1000, 0.0, of))["no_face"]
    assert found.value == pytest.approx(1000 * rejected / of)
    assert found.low == pytest.approx(1000 * low, abs=0.06)
    assert found.high == pytest.approx(1000 * high, abs=0.06)


def test_what_a_sample_has_none_of_may_still_be_there() -> None:
    # 1 - 0.025 ** (1 / 10)
    assert unseen(Scale(1000, 0.0, 10)) == pytest.approx(308.5, abs=0.1)
    assert unseen(Scale(10, 0.0, 10)) == 0.0


def test_a_sample_of_everything_is_certain_of_its_rejects() -> None:
    found = reject_counts([unit(images=4, faces=3, no_face=1)], Scale(4, 0.0, 4))["no_face"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
