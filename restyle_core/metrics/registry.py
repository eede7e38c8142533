"""The registry of quality metrics. Imports no torch.

A metric is one file in ``restyle_core/metrics/registered`` with a :class:`Metric` called
``METRIC``. Other packages register theirs in the entry point group ``restyle.metrics``. Options,
help, settings, columns, report and page read :data:`METRICS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from restyle.core.errors import SpecError
from restyle.core.registry import Registry, constants_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

    from restyle.core.faces.alignment import Framing

Better = Literal["lower", "higher"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Names of other columns in datasets with metrics, and the word for an empty list.
RESERVED = frozenset(
    {
        *("image_id", "revision", "face", "source", "latent", "steps", "quad", "model", "detector"),
        *("step", "delta", "none", "distance"),
    }
)


@dataclass(frozen=True)
class Setting:
    """Settings of a metric's computation.

    Attributes:
        device: of the images.
        dtype: of a network's convolutions; everything else is float32.
        framing: framing of the aligned images; None for domains without faces.
        identity_weights: weights of the face recogniser, see :mod:`restyle.core.faces.arcface`;
            None for the embedded one.
    """

    device: torch.device
    dtype: torch.dtype
    framing: Framing | None
    identity_weights: Path | None = None


if TYPE_CHECKING:
    Measure = Callable[[Tensor], Tensor]
    """Maps reconstructions [B, 3, h, w] to values [B]."""
    Against = Callable[[Tensor], Measure]
    """Maps targets [B, 3, h, w] to a measure of their reconstructions."""


@dataclass(frozen=True)
class Metric:
    """A measure of a reconstruction against its photograph, per image.

    Attributes:
        name: of the option and the column: lower case letters, digits and underscores.
        title: name in reports.
        unit: short description of the values.
        definition: one sentence for the column's metadata.
        better: whether lower or higher values mean a closer reconstruction.
        bounds: smallest and largest value; None without a bound. ``inf`` is a bound that is
            reached, as by the PSNR of equal images.
        load: imports and loads the metric once. The result maps a batch of targets to a measure of
            their reconstructions; both are float32 RGB [B, 3, h, w] in [-1, 1] on the device,
            without gradients, and values are [B]. :func:`pairwise` adapts a function of two
            batches.
        needs_faces: whether values are NaN in domains without faces.
        position: sort key in lists and columns among this project's metrics.
    """

    name: str
    title: str
    unit: str
    definition: str
    better: Better
    bounds: tuple[float | None, float | None]
    load: Callable[[Setting], Against]
    needs_faces: bool = False
    position: int = 100

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in RESERVED:
            raise ValueError(
                f"{self.name!r} cannot be the name of a metric: lower case letters, digits and "
                f"underscores, and none of {', '.join(sorted(RESERVED))}"
            )

    def worsened(self, values: npt.NDArray[np.floating]) -> tuple[int, ...]:
        """Count the faces with a worse value one step later.

        Args:
            values: [N, S] of N faces at S steps, NaN where there is none.

        Returns:
            A number for each step but the last; only pairs of measured values count.
        """
        before, after = values[:, :-1], values[:, 1:]
        worse = after > before if self.better == "lower" else after < before
        return tuple(worse.sum(axis=0).tolist())

    @property
    def may_be_infinite(self) -> bool:
        """Whether infinity is a valid value."""
        return any(bound is not None and math.isinf(bound) for bound in self.bounds)


METRICS: Registry[Metric] = Registry(
    Metric,
    "metric",
    lambda: constants_of("restyle.core.metrics.registered", "METRIC"),
    "restyle.metrics",
)
"""All metrics by name, in the order of columns."""


def pairwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Setting], Against]:
    """Make ``load`` of a metric from a function of two batches.

    Args:
        function: maps reconstructions and targets, both [B, 3, h, w], to values [B].
    """
    return lambda _setting: lambda target: lambda images: function(images, target)


def check_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Validate a selection of metrics.

    Args:
        names: any of :data:`METRICS`; duplicates are ignored.

    Returns:
        The names in the order of :data:`METRICS`.

    Raises:
        SpecError: a name is unknown, or the metric's package cannot be used.
    """
    selected = list(names)
    for name in selected:
        if name not in METRICS:
            raise SpecError(f"there is no metric {name!r}; choose among {', '.join(METRICS)}")
        _ = METRICS[name]
    return tuple(name for name in METRICS if name in selected)


def title_of(name: str) -> str:
    """Title of a metric's column; the name itself if the metric is not installed."""
    metric = find_metric(name)
    return name if metric is None else metric.title


def find_metric(name: str) -> Metric | None:
    """A metric by name, or None if it is not installed, as can be the case for old outputs."""
    try:
        return METRICS.get(name)
    except SpecError:
        return None
