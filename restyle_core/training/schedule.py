"""Learning rate decay and weight averages by the number of images seen."""

from __future__ import annotations

import math

import torch
from torch import nn


def cosine_decay(progress: float, decay_from: float) -> float:
    """Factor on the learning rate: 1 until ``decay_from``, then along a cosine to 0.

    Args:
        progress: completed share of the run, in [0, 1].
        decay_from: share of the run at which the decay starts.
    """
    if progress <= decay_from or decay_from >= 1.0:
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - decay_from) / (1.0 - decay_from))))


@torch.no_grad()
def update_average(
    average: nn.Module, model: nn.Module, batch: int, half_life: float, seen: int
) -> None:
    """Update an exponential moving average of weights; buffers are copied.

    Args:
        average: updated in place.
        model: the source.
        batch: images of this step.
        half_life: in images; at most a twentieth of ``seen``, so that the random initial weights
            do not stay in the average.
        seen: images before this step.
    """
    half_life = min(half_life, 0.05 * seen)
    keep = 0.5 ** (batch / max(half_life, 1e-8))
    for averaged, weight in zip(average.parameters(), model.parameters(), strict=True):
        averaged.lerp_(weight, 1.0 - keep)
    for target, source in zip(average.buffers(), model.buffers(), strict=True):
        target.copy_(source)
