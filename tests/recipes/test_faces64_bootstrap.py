"""The bootstrap's intervals against their definition, and paired as they are meant to be."""

from __future__ import annotations

import numpy as np

from recipes.faces64.bootstrap import RESAMPLES, over_images
from recipes.faces64.measure import differences


def test_the_interval_of_a_mean_is_the_percentiles_of_resampled_means() -> None:
    values = np.random.default_rng(0).exponential(size=300)
    found = over_images(300, lambda rows: float(values[rows].mean()))
    assert found.value == values.mean()
    # Resampled by numbers of times instead of rows, with other random numbers.
    times = np.random.default_rng(1).multinomial(300, np.full(300, 1 / 300), size=RESAMPLES * 10)
    low, high = np.percentile(times @ values / 300, [2.5, 97.5])
    width = high - low
    assert abs(found.low - low) < 0.08 * width
    assert abs(found.high - high) < 0.08 * width


def test_differences_are_paired_and_relative_to_the_second() -> None:
    source = np.random.default_rng(0)
    second = source.uniform(1, 100, size=400)
    first = 0.8 * second
    absolute, relative = differences(first, second)
    # However much the images differ, each is better by a fifth.
    assert np.allclose([relative.value, relative.low, relative.high], -20)
    assert np.isclose(absolute.value, -0.2 * second.mean())
    assert absolute.low < absolute.value < absolute.high < 0
    noise = source.normal(size=400)
    about_nothing, _ = differences(second + noise, second)
    assert about_nothing.low < 0.1
    assert about_nothing.high > -0.1
    assert about_nothing.high - about_nothing.low < 0.3


def test_an_interval_is_shown_by_one_format() -> None:
    found = over_images(5, lambda rows: 1.0)
    assert found.show("+.1f") == "+1.0 (+1.0 to +1.0)"
    sometimes = over_images(5, lambda rows: 1.0 if len(set(rows)) > 3 else float("nan"))
    assert sometimes.show("+.1f") == "+1.0 (none)"
