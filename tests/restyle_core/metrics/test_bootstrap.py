"""The bootstrap's intervals against their definition."""

from __future__ import annotations

import numpy as np

from restyle.core.metrics.bootstrap import RESAMPLES, of_mean, over_images


def test_the_interval_of_a_mean_is_the_percentiles_of_resampled_means() -> None:
    values = np.random.default_rng(0).exponential(size=300)
    found = over_images(300, lambda rows: float(values[rows].mean()))
    quick = of_mean(values)
    assert found.value == quick.value == values.mean()
    # Resampled by numbers of times instead of rows, with other random numbers.
    times = np.random.default_rng(1).multinomial(300, np.full(300, 1 / 300), size=RESAMPLES * 10)
    low, high = np.percentile(times @ values / 300, [2.5, 97.5])
    width = high - low
    assert abs(found.low - low) < 0.08 * width
    assert abs(found.high - high) < 0.08 * width
    assert abs(quick.low - low) < 0.08 * width
    assert abs(quick.high - high) < 0.08 * width


def test_the_mean_of_one_value_has_no_interval_and_that_of_equal_ones_no_width() -> None:
    assert np.isnan([of_mean(np.array([3.0])).low, of_mean(np.array([3.0])).high]).all()
    same = of_mean(np.full(7, 0.1))
    assert same.low == same.high == same.value


def test_an_interval_does_not_change_between_calls() -> None:
    values = np.random.default_rng(2).normal(size=40)
    assert of_mean(values) == of_mean(values) != of_mean(values, seed=1)


def test_an_interval_is_shown_by_one_format() -> None:
    found = over_images(5, lambda rows: 1.0)
    assert found.show("+.1f") == "+1.0 (+1.0 to +1.0)"
    sometimes = over_images(5, lambda rows: 1.0 if len(set(rows)) > 3 else float("nan"))
    assert sometimes.show("+.1f") == "+1.0 (none)"
