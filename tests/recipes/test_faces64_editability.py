"""Identity at equal change, read off made-up edits whose truth is known."""

from __future__ import annotations

import numpy as np

from recipes.faces64.editability import Edits

STRENGTHS = np.linspace(-3, 3, 13)


def edits(slope: float, cost: float) -> Edits:
    """Scores rise by ``slope`` a unit of strength; identity falls by ``cost`` a unit."""
    offsets = np.random.default_rng(0).normal(size=(50, 1))
    scores = offsets + slope * STRENGTHS
    kept = np.broadcast_to(1 - cost * np.abs(STRENGTHS), scores.shape)
    return Edits(STRENGTHS, scores, {"reconstruction": kept, "photograph": kept - 0.05})


def test_strengths_are_those_that_change_as_much() -> None:
    rows = np.arange(50)
    weak, strong = edits(0.1, 0.01), edits(0.2, 0.015)
    for change in (-0.25, -0.1, 0.1, 0.25):
        assert np.isclose(weak.reached(change, rows), change / 0.1)
        assert np.isclose(strong.reached(change, rows), change / 0.2)
        # A unit of strength costs the second more, a change costs it less.
        assert np.isclose(weak.kept_at(change, "reconstruction", rows), 1 - abs(change) * 0.1)
        assert np.isclose(strong.kept_at(change, "reconstruction", rows), 1 - abs(change) * 0.075)
        assert np.isclose(strong.kept_at(change, "photograph", rows), 0.95 - abs(change) * 0.075)


def test_a_change_that_no_strength_makes_has_no_identity() -> None:
    assert np.isnan(edits(0.1, 0.01).kept_at(0.31, "reconstruction", np.arange(50)))


def test_only_the_photographs_of_the_rows_count() -> None:
    made = edits(0.1, 0.01)
    made.scores[0] = -made.scores[0]
    assert np.isclose(made.reached(0.1, np.arange(1, 50)), 1)
    assert made.reached(0.1, np.array([0, 1, 2, 3])) > 1.9
