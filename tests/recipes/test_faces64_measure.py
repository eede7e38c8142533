"""Differences of two methods, paired as they are meant to be."""

from __future__ import annotations

import numpy as np

from recipes.faces64.measure import differences


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
