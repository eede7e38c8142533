"""How close a reconstruction comes to its photograph, per image."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from restyle.core.faces.alignment import Framing
from restyle.core.faces.recognition import chips_from_crops, load_face_embedder
from restyle.core.metrics.lpips import load_lpips
from restyle.core.metrics.ms_ssim import ms_ssim
from restyle.core.metrics.names import DEFINITIONS, LOWER_IS_BETTER, METRICS, check_metrics

__all__ = ["DEFINITIONS", "LOWER_IS_BETTER", "METRICS", "MetricSet", "check_metrics"]

Measure = Callable[[Tensor], dict[str, Tensor]]


class MetricSet:
    """A selection of metrics with the networks that they need.

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
    ) -> None:
        """Load what the metrics need.

        Args:
            names: any of :data:`METRICS`.
            framing: how the images were aligned; None for domains without faces, where
                ``id_similarity`` is NaN.
            device: where to compute.
            dtype: of the two networks' convolutions; float32 keeps lpips exact to 1e-5.
                Everything else is computed in float32.

        Raises:
            SpecError: a name is unknown.
            CheckpointError: a network's weights cannot be read.
        """
        self.names = check_metrics(names)
        self._framing = framing
        self._device = torch.device(device)
        # Parameters born in inference mode could never take part in training afterwards.
        with torch.inference_mode(False):
            if "lpips" in self.names:
                self._lpips = load_lpips().to(self._device, dtype)
            if "id_similarity" in self.names and framing is not None:
                self._embedder = copy.deepcopy(load_face_embedder()).to(self._device, dtype)

    def __call__(self, reconstruction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Measure each reconstruction against its target.

        Args:
            reconstruction: [B, 3, h, w] RGB; values are clamped to [-1, 1], as when it is saved.
            target: the same shape, in [-1, 1].

        Returns:
            For each name a float32 tensor [B] on the CPU. ``psnr`` of equal images is infinite.

        Raises:
            ValueError: the shapes differ, or the images are too small for a metric.
        """
        return self.against(target)(reconstruction)

    def against(self, target: Tensor) -> Measure:
        """Compute what depends on the target alone.

        Args:
            target: [B, 3, h, w] RGB in [-1, 1].

        Returns:
            A function from reconstructions of the target to the metrics, as :meth:`__call__`.
        """
        measure = self.against_there(target)
        return lambda images: {name: values.cpu() for name, values in measure(images).items()}

    @torch.no_grad()
    def against_there(self, target: Tensor) -> Measure:
        """As :meth:`against`, with metrics that stay on the device, so that nobody waits for it."""
        target = target.to(self._device, torch.float32)
        prepared = {name: self._prepare(name, target) for name in self.names}

        @torch.no_grad()
        def measure(reconstruction: Tensor) -> dict[str, Tensor]:
            if reconstruction.shape != target.shape:
                raise ValueError(
                    f"reconstruction {tuple(reconstruction.shape)} and target "
                    f"{tuple(target.shape)} must have one shape"
                )
            images = reconstruction.to(self._device, torch.float32).clamp(-1, 1)
            return {name: prepared[name](images).float() for name in self.names}

        return measure

    def _prepare(self, name: str, target: Tensor) -> Callable[[Tensor], Tensor]:
        if name == "l2":
            return lambda images: _mean_squared_error(images, target)
        if name == "psnr":
            return lambda images: 10 * torch.log10(4 / _mean_squared_error(images, target))
        if name == "ms_ssim":
            unit_target = (target + 1) / 2
            return lambda images: ms_ssim((images + 1) / 2, unit_target)
        if name == "lpips":
            features = self._lpips.features(target)
            return lambda images: self._lpips.distance(self._lpips.features(images), features)
        framing = self._framing
        if framing is None:
            return lambda images: images.new_full((images.shape[0],), torch.nan)
        embedding = self._embedder(chips_from_crops(target, framing))
        return lambda images: torch.cosine_similarity(
            self._embedder(chips_from_crops(images, framing)), embedding
        )


def _mean_squared_error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))
