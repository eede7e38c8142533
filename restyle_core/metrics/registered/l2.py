"""The mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restyle.core.metrics.registry import Metric, pairwise

if TYPE_CHECKING:
    from torch import Tensor


def mean_squared_error(images: Tensor, target: Tensor) -> Tensor:
    """Mean squared error [B] of two batches [B, C, h, w]."""
    return (images - target).square().mean(dim=(1, 2, 3))


METRIC = Metric(
    name="l2",
    title="L2",
    unit="mean squared error",
    definition="mean squared error on [-1, 1]",
    better="lower",
    bounds=(0, 4),
    load=pairwise(mean_squared_error),
    position=1,
)
