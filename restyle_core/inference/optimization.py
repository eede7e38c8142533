"""Optimisation of W+ latents: gradient descent on the difference between image and photograph.

As the projector of Karras et al., "Analyzing and Improving the Image Quality of StyleGAN"
(1912.04958, appendix D): Adam, with a learning rate that rises and falls. It differs where it
continues from an encoder's latent: each style vector is free (W+), the loss has an l2 beside LPIPS,
with the weights of pixel2style2pixel (2008.00951, section 3.2), and nothing is random. The noise
maps stay as stored, because an output keeps latents only, so they need no regularisation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from restyle.core.errors import SpecError
from restyle.core.inference.batch_size import gradient_batch
from restyle.core.inference.model import Model
from restyle.core.inference.refinement import Step
from restyle.core.metrics.lpips import LPIPS, MIN_SIDE, load_lpips
from restyle.core.metrics.registered.l2 import mean_squared_error

L2_WEIGHT, LPIPS_WEIGHT = 1.0, 0.8
"""Weights of the two losses."""

LEARNING_RATE = 0.1
# The projector's ramps, as shares of the steps.
_RISE, _FALL = 0.05, 0.25


def optimize(
    model: Model, x: Tensor, latents: Tensor, steps: int, stepped: Callable[[], None] | None = None
) -> Tensor:
    """Optimise latents towards images.

    Each image has a loss of its own, so that images do not affect each other. The result is the
    best of the latents that were seen, including the start.

    Args:
        model: provides the generator.
        x: [B, 3, h, w] in [-1, 1], the images.
        latents: [B, n_styles, style_dim], the start: an encoder's latents, or the average.
        steps: number of steps of gradient descent.
        stepped: called after each, as a sign of progress.

    Returns:
        [B, n_styles, style_dim] float32 on the model's device.

    Raises:
        SpecError: the images are too small for LPIPS.
    """
    if min(x.shape[-2:]) < MIN_SIDE:
        raise SpecError(
            f"{model.config.name} works with images of {x.shape[-2]}x{x.shape[-1]} pixels; "
            f"polishing needs {MIN_SIDE} a side, leave --polish out"
        )
    # Tensors of inference mode have no gradients.
    with torch.inference_mode(False), torch.enable_grad(), model.convolving():
        size = gradient_batch(model.generator.config, model.device)
        parts = zip(torch.split(x.clone(), size), torch.split(latents.clone(), size), strict=True)
        return torch.cat([_descend(model, *part, steps, stepped) for part in parts])


def _descend(
    model: Model, x: Tensor, latents: Tensor, steps: int, stepped: Callable[[], None] | None
) -> Tensor:
    loss = Loss(model, x)
    w = latents.to(model.device, torch.float32, copy=True).requires_grad_(True)
    best, lowest = w.detach().clone(), torch.full((len(w),), math.inf, device=w.device)
    adam = torch.optim.Adam([w])
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            losses = loss(w)
        # False for a loss that is not a number.
        is_better = losses.detach() < lowest
        lowest = torch.where(is_better, losses.detach(), lowest)
        best = torch.where(is_better[:, None, None], w.detach(), best)
        if step < steps:
            (w.grad,) = torch.autograd.grad(losses.sum(), w)
            adam.param_groups[0]["lr"] = learning_rate(step, steps)
            adam.step()
        if stepped is not None:
            stepped()
    return best


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


def polished(
    model: Model,
    x: Tensor,
    made: Iterator[Step],
    steps: int,
    stepped: Callable[[], None] | None = None,
) -> Iterator[Step]:
    """Add one step to an encoder's: the optimisation of its latents.

    Args:
        model: provides the generator.
        x: [B, 3, h, w] in [-1, 1], the images.
        made: the encoder's steps; none of them stops early.
        steps: as for :func:`optimize`; 0 adds nothing.
        stepped: as for :func:`optimize`.

    Yields:
        Each :class:`Step`.
    """
    if not steps:
        yield from made
        return
    for step in made:
        is_last = bool(step.final.all())
        yield replace(step, final=torch.zeros_like(step.final), before_polish=is_last)
    latents = optimize(model, x, step.latents, steps, stepped)
    with torch.inference_mode():
        image = model.synthesize(latents)
        pooled = model.pool(image)
    yield Step(step.index + 1, latents, image, pooled, step.pooled, step.rows, step.final)
