"""Computation of several metrics per image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from restyle.core.errors import FatalError, RestyleError
from restyle.core.faces.alignment import Framing
from restyle.core.metrics.registry import METRICS, Setting, check_metrics

__all__ = ["METRICS", "MetricSet", "check_metrics"]

Measure = Callable[[Tensor], dict[str, Tensor]]


class MetricSet:
    """A selection of metrics with their networks.

    ``MetricSet(names)(reconstruction, target)`` measures one pair of batches;
    ``measure = MetricSet(names).against(target)`` prepares a target once for several
    reconstructions of it.

    Attributes:
        names: the metrics, in the order of :data:`METRICS`.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        framing: Framing | None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        identity_weights: Path | None = None,
    ) -> None:
        """Load the networks of the metrics.

        Args:
            names: any of :data:`METRICS`.
            framing: framing of the aligned images; None for domains without faces, where metrics
                that need faces are NaN.
            device: of the computation.
            dtype: of the networks' convolutions; float32 keeps lpips exact to 1e-5. Everything else
                is computed in float32.
            identity_weights: weights of the face recogniser of ``id_similarity``; None for the
                embedded one.

        Raises:
            SpecError: a name is unknown.
            CheckpointError: a network's weights cannot be read.
            FatalError: a metric of another package cannot be loaded.
        """
        self.names = check_metrics(names)
        self._device = torch.device(device)
        setting = Setting(self._device, dtype, framing, identity_weights)
        # Parameters created in inference mode do not support autograd.
        with torch.inference_mode(False):
            self._against = {name: _loaded(name, setting) for name in self.names}

    def __call__(self, reconstruction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Measure each reconstruction against its target.

        Args:
            reconstruction: [B, 3, h, w] RGB; values are clamped to [-1, 1], as when it is saved.
            target: the same shape, in [-1, 1].

        Returns:
            A float32 tensor [B] on the CPU for each name. ``psnr`` of equal images is infinite.

        Raises:
            ValueError: the shapes differ, or the images are too small for a metric.
        """
        return self.against(target)(reconstruction)

    def against(self, target: Tensor) -> Measure:
        """Prepare a target for several reconstructions.

        Args:
            target: [B, 3, h, w] RGB in [-1, 1].

        Returns:
            A function from reconstructions of the target to the metrics, as :meth:`__call__`.
        """
        measure = self.against_there(target)
        return lambda images: {name: values.cpu() for name, values in measure(images).items()}

    @torch.no_grad()
    def against_there(self, target: Tensor) -> Measure:
        """As :meth:`against`, with metrics on the device, without synchronising with it."""
        target = target.to(self._device, torch.float32)
        prepared = {name: against(target) for name, against in self._against.items()}

        @torch.no_grad()
        def measure(reconstruction: Tensor) -> dict[str, Tensor]:
            if reconstruction.shape != target.shape:
                raise ValueError(
                    f"reconstruction {tuple(reconstruction.shape)} and target "
                    f"{tuple(target.shape)} must have one shape"
                )
            images = reconstruction.to(self._device, torch.float32).clamp(-1, 1)
            return {name: _checked(name, of(images), len(images)) for name, of in prepared.items()}

        return measure


def _loaded(name: str, setting: Setting) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
    metric = METRICS[name]
    if metric.needs_faces and setting.framing is None:
        return lambda _target: lambda images: images.new_full((len(images),), torch.nan)
    try:
        return metric.load(setting)
    except RestyleError:
        raise
    except Exception as error:
        # Another package's code may raise anything.
        reason = " ".join(str(error).split())
        raise FatalError(
            f"the metric {name} cannot be loaded: {type(error).__name__}: {reason}; mend its "
            "package or leave it out of --metrics"
        ) from error


def _checked(name: str, values: Tensor, count: int) -> Tensor:
    if not isinstance(values, Tensor) or values.shape != (count,):
        given = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise FatalError(
            f"the metric {name} gives {given} for {count} images instead of a tensor [{count}]; "
            "mend its package or leave it out of --metrics"
        )
    return values.float()
