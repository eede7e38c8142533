"""Strengths at which edits change an attribute equally.

An edit of one strength changes the pictures of two methods by different amounts, so that what they
keep at equal strengths says nothing; it is read where both have changed the attribute by the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def strength_for(change: float, strengths: Floats, scores: Floats) -> float:
    """At which strength the mean score has changed by so much, between the measured ones.

    Args:
        change: above or below the mean score of strength 0.
        strengths: [S], ascending; one of them is 0.
        scores: [N, S] of the attribute, all finite.

    Returns:
        The strength; NaN if no strength changes the score so far.
    """
    means = scores.mean(axis=0)
    means = means - means[strengths == 0]
    # np.interp takes what it looks up in ascending order.
    return float(np.interp(change, np.maximum.accumulate(means), strengths, np.nan, np.nan))
