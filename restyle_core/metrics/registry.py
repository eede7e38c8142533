"""The quality metrics: what each is, and where it is computed. Imports no torch.

A metric is one file in ``restyle_core/metrics/registered`` with a :class:`Metric` called
``METRIC``. Another package registers one of its own in the entry point group
``restyle.metrics``. Names, help, settings, columns, report and page read :data:`METRICS`.
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
    import torch
    from torch import Tensor

    from restyle.core.faces.alignment import Framing

Better = Literal["lower", "higher"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# The other columns of the datasets with metrics, and the word for an empty list.
RESERVED = frozenset(
    {
        *("image_id", "revision", "face", "source", "latent", "steps", "quad", "model"),
        *("step", "delta", "none", "distance"),
    }
)


@dataclass(frozen=True)
class Setting:
    """What a metric is computed with.

    Attributes:
        device: where the images are.
        dtype: of the convolutions of a network; everything else is float32.
        framing: how the images were aligned; None for domains without faces.
    """

    device: torch.device
    dtype: torch.dtype
    framing: Framing | None


if TYPE_CHECKING:
    Measure = Callable[[Tensor], Tensor]
    """From reconstructions [B, 3, h, w] to values [B]."""
    Against = Callable[[Tensor], Measure]
    """From targets [B, 3, h, w] to what measures reconstructions of them, several times."""


@dataclass(frozen=True)
class Metric:
    """A measure of how close a reconstruction comes to its photograph, per image.

    Attributes:
        name: of the option and the column: lower case letters, digits and underscores.
        title: what a person calls it.
        unit: what its values are, in a few words.
        definition: one sentence, which stands in the column's metadata.
        better: which values are those of a closer reconstruction.
        bounds: least and greatest value; None where there is no bound. ``inf`` is a bound that
            can be reached, as by the PSNR of equal images.
        load: imports and reads what computes the metric, once; the result takes a batch of
            targets and returns what measures reconstructions of them. Both are float32 RGB
            [B, 3, h, w] in [-1, 1] on the device, without gradients; values are [B].
            :func:`pairwise` makes this from a function of two batches.
        needs_faces: values are NaN in domains without faces.
        position: in lists and columns, among this project's own.
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

    @property
    def may_be_infinite(self) -> bool:
        """Whether infinity is a value, rather than a failure."""
        return any(bound is not None and math.isinf(bound) for bound in self.bounds)


METRICS: Registry[Metric] = Registry(
    Metric,
    "metric",
    lambda: constants_of("restyle.core.metrics.registered", "METRIC"),
    "restyle.metrics",
)
"""Every metric there is by name, in the order of columns."""


def pairwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Setting], Against]:
    """The ``load`` of a metric that needs nothing but the two batches.

    Args:
        function: of reconstructions and targets, both [B, 3, h, w], to values [B].
    """
    return lambda _setting: lambda target: lambda images: function(images, target)


def check_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Validate a selection of metrics.

    Args:
        names: any of :data:`METRICS`; repetitions count once.

    Returns:
        The names in the order of :data:`METRICS`.

    Raises:
        SpecError: a name is unknown, or the package that brings it cannot be used.
    """
    asked = list(names)
    for name in asked:
        if name not in METRICS:
            raise SpecError(f"there is no metric {name!r}; choose among {', '.join(METRICS)}")
        _ = METRICS[name]
    return tuple(name for name in METRICS if name in asked)


def title_of(name: str) -> str:
    """What a person calls a column of an output; its name where no such metric is installed."""
    metric = find_metric(name)
    return name if metric is None else metric.title


def find_metric(name: str) -> Metric | None:
    """A metric by name; None where no package that can be used brings it.

    For what reads outputs, which may hold metrics that are not installed here.
    """
    try:
        return METRICS.get(name)
    except SpecError:
        return None
