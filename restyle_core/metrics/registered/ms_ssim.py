"""Multi-scale structural similarity, see :mod:`restyle.core.metrics.ms_ssim`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restyle.core.metrics.registry import Metric, pairwise

if TYPE_CHECKING:
    from torch import Tensor


def _similarity(images: Tensor, target: Tensor) -> Tensor:
    from restyle.core.metrics.ms_ssim import ms_ssim

    return ms_ssim((images + 1) / 2, (target + 1) / 2)


METRIC = Metric(
    name="ms_ssim",
    title="MS-SSIM",
    unit="similarity, 1 is equal",
    definition="multi-scale SSIM, window 11, as many of the five scales as fit",
    better="higher",
    bounds=(0, 1),
    load=pairwise(_similarity),
    position=3,
)
