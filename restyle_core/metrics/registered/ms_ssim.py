"""Multi-scale structural similarity, see :mod:`restyle.core.metrics.ms_ssim`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restyle.core.metrics.registry import Metric, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from restyle.core.metrics.registry import Against, Measure


def _load(_setting: Setting) -> Against:
    from restyle.core.metrics.ms_ssim import ms_ssim

    def against(target: Tensor) -> Measure:
        unit_target = (target + 1) / 2
        return lambda images: ms_ssim((images + 1) / 2, unit_target)

    return against


METRIC = Metric(
    name="ms_ssim",
    title="MS-SSIM",
    unit="similarity, 1 is equal",
    definition="multi-scale SSIM, window 11, as many of the five scales as fit",
    better="higher",
    bounds=(0, 1),
    load=_load,
    position=3,
)
