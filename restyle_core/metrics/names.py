"""The quality metrics by name and definition; imports no torch, so that the command line can."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from restyle.core.errors import SpecError


class MetricName(NamedTuple):
    """What a metric is called and how it is defined.

    Attributes:
        title: for a person.
        unit: what its numbers are.
        definition: in the words that a dataset's column metadata carries.
    """

    title: str
    unit: str
    definition: str


NAMES: dict[str, MetricName] = {
    "l2": MetricName("L2", "mean squared error", "mean squared error on [-1, 1]"),
    "psnr": MetricName(
        "PSNR", "decibels", "10 log10(4 / l2) in decibels; the data range on [-1, 1] is 2"
    ),
    "ms_ssim": MetricName(
        "MS-SSIM",
        "similarity, 1 is equal",
        "multi-scale SSIM, window 11, as many of the five scales as fit",
    ),
    "lpips": MetricName("LPIPS", "perceptual distance", "LPIPS v0.1, AlexNet, mean over space"),
    "id_similarity": MetricName(
        "identity",
        "cosine of face embeddings",
        "cosine of dlib_face_recognition_resnet_model_v1 embeddings (128-d)",
    ),
}
"""Every metric by the name of its column."""

DEFINITIONS: dict[str, str] = {name: metric.definition for name, metric in NAMES.items()}
"""What each metric is, in the words that a dataset's column metadata carries."""

TITLES: dict[str, str] = {name: metric.title for name, metric in NAMES.items()}
"""What a person calls each metric."""

METRICS: tuple[str, ...] = tuple(NAMES)
"""Every metric there is, in the order of columns."""

LOWER_IS_BETTER = frozenset({"l2", "lpips"})
"""The metrics that fall as a reconstruction gets better; the others rise."""


def check_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Validate a selection of metrics.

    Args:
        names: any of :data:`METRICS`; repetitions count once.

    Returns:
        The names in the order of :data:`METRICS`.

    Raises:
        SpecError: a name is unknown.
    """
    asked = list(names)
    for name in asked:
        if name not in DEFINITIONS:
            raise SpecError(f"there is no metric {name!r}; choose among {', '.join(METRICS)}")
    return tuple(name for name in METRICS if name in asked)
