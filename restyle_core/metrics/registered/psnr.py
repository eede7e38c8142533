"""The peak signal-to-noise ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restyle.core.metrics.registered.l2 import mean_squared_error
from restyle.core.metrics.registry import Metric, pairwise

if TYPE_CHECKING:
    from torch import Tensor


def _decibels(images: Tensor, target: Tensor) -> Tensor:
    return 10 * (4 / mean_squared_error(images, target)).log10()


METRIC = Metric(
    name="psnr",
    title="PSNR",
    unit="decibels",
    definition="10 log10(4 / l2) in decibels; the data range on [-1, 1] is 2",
    better="higher",
    bounds=(0, float("inf")),
    load=pairwise(_decibels),
    position=2,
)
