"""LPIPS, see :mod:`restyle.core.metrics.lpips`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restyle.core.metrics.registry import Metric, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from restyle.core.metrics.registry import Against, Measure


def _load(setting: Setting) -> Against:
    from restyle.core.metrics.lpips import load_lpips

    network = load_lpips().to(setting.device, setting.dtype)

    def against(target: Tensor) -> Measure:
        features = network.features(target)
        return lambda images: network.distance(network.features(images), features)

    return against


METRIC = Metric(
    name="lpips",
    title="LPIPS",
    unit="perceptual distance",
    definition="LPIPS v0.1, AlexNet, mean over space",
    better="lower",
    bounds=(0, None),
    load=_load,
    position=4,
)
