"""Strengths of equal change, of scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from restyle.core.editing.equal_change import strength_for

STRENGTHS = np.linspace(-3, 3, 7)
OFFSETS = np.random.default_rng(0).normal(size=(50, 1))


@pytest.mark.parametrize("slope", [0.05, 0.1, 0.4])
@pytest.mark.parametrize("change", [-0.12, -0.01, 0.0, 0.07, 0.12])
def test_a_straight_score_is_changed_by_change_over_slope(slope: float, change: float) -> None:
    found = strength_for(change, STRENGTHS, OFFSETS + slope * STRENGTHS)
    assert np.isclose(found, change / slope)


@pytest.mark.parametrize("change", [-0.31, 0.31, 7.0])
def test_a_change_out_of_reach_has_no_strength(change: float) -> None:
    assert np.isnan(strength_for(change, STRENGTHS, OFFSETS + 0.1 * STRENGTHS))


def test_a_score_that_falls_again_counts_as_far_as_it_rose() -> None:
    scores = OFFSETS + np.array([-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.15])
    assert np.isclose(strength_for(0.15, STRENGTHS, scores), 1.5)
