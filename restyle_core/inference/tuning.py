"""Pivotal tuning: the generator of one face, fine-tuned around a fixed latent.

Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images" (2106.05744, sections 3.2 and
3.3). The latent, the pivot, stays; the weights of the synthesis network change until its image is
the photograph. Locality regularisation keeps the generator's other images: at each step the tuned
and the original generator render a random latent that was moved near the pivot, and differ little.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from restyle.core.errors import CheckpointError, FatalError
from restyle.core.inference.model import MAPPING, Model
from restyle.core.inference.optimization import check_size, perceptual_network
from restyle.core.metrics.registered.l2 import mean_squared_error
from restyle.core.networks.generator import Generator

LEARNING_RATE = 3e-4
LOCALITY_WEIGHT = 0.1
ALPHA = 30.0
"""Distance of the random latents from the pivot, over all styles together."""

# Truncation of the random latents towards the average.
_TRUNCATION = 0.5

STORED = torch.float16
"""dtype of the differences; half of float32, and finer than bfloat16 for values this small."""

Weights = dict[str, Tensor]
"""Differences of a tuned generator's parameters from the original ones, by name."""


@dataclass(frozen=True)
class Tuning:
    """How a generator is tuned.

    Attributes:
        iterations: steps of gradient descent.
        seed: of the random latents; every face has the same ones.
    """

    iterations: int
    seed: int = 0


def tune(
    model: Model,
    x: Tensor,
    pivots: Tensor,
    tuning: Tuning,
    stepped: Callable[[], None] | None = None,
) -> Weights:
    """Tune a generator for each of several faces, one after another.

    A face's weights are the best on the way by its own loss, so that no face gets worse.

    Args:
        model: provides the original generator.
        x: [B, 3, h, w] in [-1, 1], the images.
        pivots: [B, n_styles, style_dim], their latents.
        tuning: how they are tuned.
        stepped: called after each step, as a sign of progress.

    Returns:
        The difference of each parameter, [B, ...] in :data:`STORED` on the CPU.

    Raises:
        SpecError: the images are too small for LPIPS.
        FatalError: a difference is not finite, or too large for :data:`STORED`.
    """
    check_size(model, x)
    with torch.inference_mode(False), torch.enable_grad(), model.convolving():
        faces = [
            _Face(model, image[None].clone(), pivot[None].clone()).tuned(tuning, stepped)
            for image, pivot in zip(x, pivots, strict=True)
        ]
    return {name: torch.stack([face[name] for face in faces]) for name in faces[0]}


def of_face(weights: Mapping[str, Tensor], index: int) -> Weights:
    """The differences of one face from those of several."""
    return {name: values[index] for name, values in weights.items()}


def encoded(weights: Mapping[str, Tensor]) -> bytes:
    """The differences of one face as a safetensors file."""
    return save({name: value.contiguous() for name, value in weights.items()})


def decoded(data: bytes) -> Weights:
    """The differences of one face from a safetensors file.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the weights of a tuned generator are damaged: {error}") from error


class _Face:
    """Tunes a copy of the generator for one face.

    Args:
        model: provides the original.
        x: [1, 3, h, w] in [-1, 1].
        pivot: [1, n_styles, style_dim].
    """

    def __init__(self, model: Model, x: Tensor, pivot: Tensor) -> None:
        self._model, self._x = model, x
        self._pivot = pivot.to(model.device, torch.float32)
        self._lpips = perceptual_network(model.device)
        self._generator: Generator = copy.deepcopy(model.generator)
        # Latents are not mapped here, so the mapping network has no gradient.
        self._parameters = {
            name: parameter
            for name, parameter in self._generator.named_parameters()
            if not name.startswith(MAPPING)
        }
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        with torch.no_grad():
            self._features = self._lpips.features(x)

    def tuned(self, tuning: Tuning, stepped: Callable[[], None] | None) -> Weights:
        parameters = list(self._parameters.values())
        source = torch.Generator().manual_seed(tuning.seed)
        adam = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        best, lowest = self._copied(), torch.inf
        for step in range(tuning.iterations + 1):
            near = self._near(source)
            loss, locality = self._losses(near)
            if loss.item() < lowest:
                best, lowest = self._copied(), loss.item()
            if step < tuning.iterations:
                whole = loss + LOCALITY_WEIGHT * locality
                for parameter, gradient in zip(
                    parameters, torch.autograd.grad(whole, parameters), strict=True
                ):
                    parameter.grad = gradient
                adam.step()
            if stepped is not None:
                stepped()
        return self._difference(best)

    @torch.no_grad()
    def _near(self, source: torch.Generator) -> Tensor:
        """A random latent [1, n_styles, style_dim], moved to a distance from the pivot."""
        z = torch.randn(1, self._generator.config.z_dim, generator=source)
        w = self._model.generator.mapping(z.to(self._model.device))[:, None]
        average = self._model.latent_avg[None]
        away = average + _TRUNCATION * (w - average) - self._pivot
        distance = away.norm()
        # Never beyond the random latent itself, which is nearer in a small latent space.
        near: Tensor = self._pivot + away * (ALPHA / distance).clamp(max=1.0)
        return near

    def _losses(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """The face's loss, and the change of a latent's image against the original generator."""
        model = self._model
        with torch.no_grad():
            original = model.pool(model.synthesize(near))
            targets = torch.cat([self._x, original])
            features = [
                torch.cat(pair)
                for pair in zip(self._features, self._lpips.features(original), strict=True)
            ]
        images = model.pool(
            model.cropped(self._generator.synthesis(torch.cat([self._pivot, near])))
        )
        distance = self._lpips.distance(self._lpips.features(images), features)
        loss = distance + mean_squared_error(images, targets)
        return loss[0], loss[1]

    def _copied(self) -> Weights:
        return {name: each.detach().clone() for name, each in self._parameters.items()}

    def _difference(self, best: Weights) -> Weights:
        originals = dict(self._model.generator.named_parameters())
        found = {
            name: (tuned - originals[name].detach()).to(STORED).cpu()
            for name, tuned in best.items()
        }
        if not all(bool(each.isfinite().all()) for each in found.values()):
            raise FatalError(
                "a tuned generator has weights that are not finite: the model's weights or its "
                "precision are at fault; try dtype fp32 or another checkpoint"
            )
        return found
