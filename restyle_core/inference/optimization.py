"""Optimisation of W+ latents: gradient descent on the difference between image and photograph.

As the projector of Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(1912.04958, appendix D): Adam, with a learning rate that rises and falls, from the average latent
or an encoder's. It differs in what is free: each style vector (W+), and in the loss, which has an
l2 beside LPIPS, with the weights of pixel2style2pixel (2008.00951, section 3.2). The projector's
noise in the first latents is an option: with all styles free it ends farther from the image
(docs/optimize.md). The noise maps stay as stored, because an output keeps latents only, so they
need no regularisation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from restyle.core.errors import SpecError
from restyle.core.inference.batch_size import gradient_batch
from restyle.core.inference.model import Model
from restyle.core.metrics.lpips import LPIPS, MIN_SIDE, load_lpips
from restyle.core.metrics.registered.l2 import mean_squared_error

L2_WEIGHT, LPIPS_WEIGHT = 1.0, 0.8
"""Weights of the two losses."""

LEARNING_RATE = 0.1
# The projector's ramps, as shares of the steps.
_RISE, _FALL = 0.05, 0.25
# Share of the steps that have noise.
_NOISY = 0.75


@dataclass(frozen=True)
class Descent:
    """How latents are optimised.

    Attributes:
        iterations: steps of gradient descent.
        noise: deviation of the noise that is added to the latents at first, as a share of the
            latents' spread; 0 for none. The projector has 0.05.
        target: an image stops once its loss is not above this; 0 for none.
        seed: of the noise, which is the same for every image.
    """

    iterations: int
    noise: float = 0.0
    target: float = 0.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Descended:
    """Result of an optimisation.

    Attributes:
        latents: [B, n_styles, style_dim] float32 on the model's device.
        iterations: [B] int64, steps that each image took.
    """

    latents: Tensor
    iterations: Tensor


def optimize(
    model: Model, x: Tensor, latents: Tensor, steps: int, stepped: Callable[[], None] | None = None
) -> Tensor:
    """Optimise latents towards images, as :func:`descend`; returns the latents."""
    return descend(model, x, latents, Descent(steps), stepped).latents


def descend(
    model: Model,
    x: Tensor,
    latents: Tensor,
    descent: Descent,
    stepped: Callable[[], None] | None = None,
) -> Descended:
    """Optimise latents towards images.

    Each image has a loss of its own, so that images do not affect each other. The result is the
    best of the latents that were seen, including the start.

    Args:
        model: provides the generator.
        x: [B, 3, h, w] in [-1, 1], the images.
        latents: [B, n_styles, style_dim], the start: an encoder's latents, or the average.
        descent: how they are optimised.
        stepped: called after each step, as a sign of progress.

    Raises:
        SpecError: the images are too small for LPIPS.
    """
    check_size(model, x)
    # Tensors of inference mode have no gradients.
    with torch.inference_mode(False), torch.enable_grad(), model.convolving():
        size = gradient_batch(model.generator.config, model.device)
        parts = zip(torch.split(x.clone(), size), torch.split(latents.clone(), size), strict=True)
        done = [_descend(model, *part, descent, stepped) for part in parts]
    return Descended(
        torch.cat([part.latents for part in done]), torch.cat([part.iterations for part in done])
    )


def check_size(model: Model, x: Tensor) -> None:
    """Check that images are large enough for the loss.

    Raises:
        SpecError: they are too small for LPIPS.
    """
    if min(x.shape[-2:]) < MIN_SIDE:
        raise SpecError(
            f"{model.config.name} works with images of {x.shape[-2]}x{x.shape[-1]} pixels; "
            f"polishing needs {MIN_SIDE} a side, leave --polish out"
        )


def _descend(
    model: Model,
    x: Tensor,
    latents: Tensor,
    descent: Descent,
    stepped: Callable[[], None] | None,
) -> Descended:
    loss, steps = Loss(model, x), descent.iterations
    w = latents.to(model.device, torch.float32, copy=True).requires_grad_(True)
    best, lowest = w.detach().clone(), torch.full((len(w),), math.inf, device=w.device)
    taken = torch.full((len(w),), steps, device=w.device)
    noise = _Noise(model, descent)
    adam = torch.optim.Adam([w])
    for step in range(steps + 1):
        point = noise.added(w, step)
        with torch.set_grad_enabled(step < steps):
            losses = loss(point)
        # False for a loss that is not a number, and for an image that has stopped.
        is_better = (losses.detach() < lowest) & (taken == steps)
        lowest = torch.where(is_better, losses.detach(), lowest)
        best = torch.where(is_better[:, None, None], point.detach(), best)
        if descent.target:
            taken = torch.where((lowest <= descent.target) & (taken == steps), step, taken)
            if bool((taken < steps).all()):
                break
        if step < steps:
            (w.grad,) = torch.autograd.grad(losses.sum(), w)
            adam.param_groups[0]["lr"] = learning_rate(step, steps)
            adam.step()
        if stepped is not None:
            stepped()
    return Descended(best, taken)


class _Noise:
    """Noise of the projector, which explores the latents around and fades.

    Its standard deviation is a share of the distance of mapped latents from their mean, times
    ``(1 - t / 0.75)^2``, where t is the share of the steps; from t = 0.75 on there is none.
    """

    def __init__(self, model: Model, descent: Descent) -> None:
        self._steps = descent.iterations
        self._size = descent.noise * model.latent_spread if descent.noise else 0.0
        # Drawn on the CPU, so that every device has the same noise.
        self._source = torch.Generator().manual_seed(descent.seed)

    def added(self, latents: Tensor, step: int) -> Tensor:
        """[B, n_styles, style_dim] with the noise of a step, the same for each image."""
        size = self._size * max(0.0, 1 - step / self._steps / _NOISY) ** 2
        if not size:
            return latents
        drawn = torch.randn(latents.shape[1:], generator=self._source)
        return latents + size * drawn.to(latents.device)


def learning_rate(step: int, steps: int) -> float:
    """Learning rate of a step, counted from 0: a linear rise, then a cosine's fall to zero."""
    rise = min(1.0, (step + 1) / max(1.0, _RISE * steps))
    fall = min(1.0, (1 - step / steps) / _FALL)
    return LEARNING_RATE * rise * (0.5 - 0.5 * math.cos(math.pi * fall))


class Loss:
    """Weighted sum of l2 and LPIPS of each image, at the encoder's size.

    Args:
        model: renders latents.
        x: [B, 3, h, w] in [-1, 1], the images.
    """

    def __init__(self, model: Model, x: Tensor) -> None:
        self._model, self._x = model, x
        self._lpips = perceptual_network(model.device)
        with torch.no_grad():
            self._features = self._lpips.features(x)

    def __call__(self, latents: Tensor) -> Tensor:
        """Losses [B] float32 of latents [B, n_styles, style_dim], differentiable."""
        image = self._model.pool(self._model.differentiable(latents))
        distance = self._lpips.distance(self._lpips.features(image), self._features)
        return L2_WEIGHT * mean_squared_error(image, self._x) + LPIPS_WEIGHT * distance


@functools.cache
def perceptual_network(device: torch.device) -> LPIPS:
    """The network of the loss, in float32, cached by device."""
    # Parameters created in inference mode do not support gradients.
    with torch.inference_mode(False):
        return load_lpips().to(device)
