"""Learning rates and weight averages as functions of the images seen."""

from __future__ import annotations

import math

import torch
from torch import nn


def cosine_decay(progress: float, decay_from: float) -> float:
    """Factor on the learning rate: 1 until ``decay_from``, then along a cosine to 0.

    Args:
        progress: share of the run that is done, in [0, 1].
        decay_from: share of the run after which the rate falls.
    """
    if progress <= decay_from or decay_from >= 1.0:
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - decay_from) / (1.0 - decay_from))))


@torch.no_grad()
def update_average(
    average: nn.Module, model: nn.Module, batch: int, half_life: float, seen: int
) -> None:
    """Move an exponential average of weights towards the model; buffers are copied.

    Args:
        average: updated in place.
        model: the source.
        batch: images of this step.
        half_life: images after which an old weight counts half; shorter in the first images,
            so that the average does not remember the random start.
        seen: images before this step.
    """
    half_life = min(half_life, 0.05 * seen) if seen < half_life * 20 else half_life
    keep = 0.5 ** (batch / max(half_life, 1e-8))
    for averaged, current in zip(average.parameters(), model.parameters(), strict=True):
        averaged.lerp_(current, 1.0 - keep)
    for target, source in zip(average.buffers(), model.buffers(), strict=True):
        target.copy_(source)
