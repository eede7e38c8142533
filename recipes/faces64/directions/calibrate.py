"""The unit of a direction's strength and the range in which it is reliable, as judges see them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from recipes.faces64.directions.judges import Judges
from restyle.core.editing.directions import Direction
from restyle.core.inference.model import Model

UNIT = 0.5
"""What one unit of strength adds to the attribute, in standard deviations among samples."""

STRONGEST = 3.0
"""The strengths of trainings and of measurements reach as far, either way."""

_LEAST_STEP, _LEAST_FOUND = 0.5, 0.9


def calibrated(
    model: Model, direction: Direction, latents: Tensor, judges: Judges, deviation: float
) -> Direction:
    """The direction with the unit and the reliable range that judges measure.

    One unit changes the attribute by :data:`UNIT` standard deviations in the mean, from -1 to 1. A
    strength is reliable if dlib still finds nine in ten faces, and its last unit adds at least half
    of what a unit should.
    """
    attribute = direction.name
    near, _ = judges.edits(model, latents, direction, (-1.0, 1.0))
    change = float(np.nanmean(near[attribute][:, 1] - near[attribute][:, 0])) / 2
    scaled = direction.described(scale=direction.about.scale * UNIT * deviation / change)
    strengths = np.arange(-STRONGEST, STRONGEST + 1)
    scores = judges.edits(model, latents, scaled, strengths.tolist())[0][attribute]
    middle = len(strengths) // 2
    found = np.isfinite(scores)[np.isfinite(scores[:, middle])].mean(axis=0)
    steps = np.diff(np.nanmean(scores, axis=0)) / (UNIT * deviation)
    print(
        f"{attribute}: dlib finds {found.round(3)}; a unit adds {steps.round(2)} units", flush=True
    )
    below = [step >= _LEAST_STEP for step in steps[:middle]] & (found[:middle] >= _LEAST_FOUND)
    above = [step >= _LEAST_STEP for step in steps[middle:]] & (found[middle + 1 :] >= _LEAST_FOUND)
    low, high = _reach(below[::-1]), _reach(above)
    return scaled.described(reliable=(-float(low), float(high)))


def _reach(holds: npt.NDArray[np.bool_]) -> int:
    """How many hold before the first that does not."""
    return int(np.cumprod(holds).sum())
