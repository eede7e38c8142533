"""ReStyle's refinement loop (Alaluf et al., 2104.02699, section 3).

Starting from the average latent w_0 and its image y_0, every step passes the target image x and the
last reconstruction to the encoder and adds the predicted residual::

    w_t = E(x, y_{t-1}) + w_{t-1}
    y_t = G(w_t)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from restyle.core.errors import SpecError
from restyle.core.inference.model import Model


class Start(Protocol):
    """Start of a refinement: a :class:`Step`, or any object with these properties."""

    @property
    def latents(self) -> Tensor:
        """Latents [B, n_styles, style_dim]."""

    @property
    def image(self) -> Tensor:
        """The latents' images [B, 3, H, W], at any size."""


@dataclass(frozen=True, eq=False)
class Step:
    """Result of one refinement step.

    Attributes:
        index: 1 for the first step.
        latents: [n, n_styles, style_dim] float32, w_t.
        image: [n, 3, H, W] float32 at the generator's size, y_t.
        pooled: [n, 3, h, w] float32, y_t at the encoder's size.
        previous: [n, 3, h, w] float32, y_{t-1} at the encoder's size.
        rows: [n] int64 on the CPU: indices in the batch; all unless some images stopped.
        final: [n] bool on the CPU: whether this is the image's last step.
        ends_part: whether it is the last one of its kind and another kind follows, such as the
            encoder's last one before the optimised one.
        iterations: [n] int64, steps of optimisation; None unless it is the optimised one.
        weights: [n, ...] by name, of the generators that rendered it, as of
            :func:`restyle.core.inference.tuning.tune`; empty for the model's own generator.
    """

    index: int
    latents: Tensor
    image: Tensor
    pooled: Tensor
    previous: Tensor
    rows: Tensor
    final: Tensor
    ends_part: bool = False
    iterations: Tensor | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)

    def change(self) -> Tensor:
        """Mean absolute change of each pixel from the previous image, [n, h, w] float32."""
        return _change(self.pooled, self.previous)


def _change(pooled: Tensor, previous: Tensor) -> Tensor:
    return (pooled - previous).abs().mean(dim=1)


@torch.inference_mode()
def refine(
    model: Model, x: Tensor, steps: int, start: Start | None = None, *, tolerance: float = 0.0
) -> Iterator[Step]:
    """Refine a batch of images step by step.

    Args:
        model: a generator and its encoder.
        x: [B, 3, h, w] in [-1, 1], from ``model.preprocess``.
        steps: maximum number of steps; exactly one for a single-pass encoder.
        start: latents and images to start from instead of the model's average; with another
            model's first step this is the paper's encoder bootstrapping (section 5).
        tolerance: an image stops when its mean absolute change in a step is below this; later
            steps contain only the others.

    Yields:
        Each :class:`Step`; this function keeps no reference to it.

    Raises:
        SpecError: the number of steps, the start or the tolerance does not suit the encoder.
    """
    _check(model, steps, start, tolerance)
    if start is None:
        w = model.latent_avg.expand(len(x), -1, -1)
        y = model.average_image.expand(len(x), -1, -1, -1)
    else:
        w = start.latents.to(model.device, torch.float32)
        y = model.pool(start.image.to(model.device))
    rows = torch.arange(len(x))
    for t in range(1, steps + 1):
        previous = y
        w, image, y = model.step(x, previous, w)
        final = torch.full((len(rows),), t == steps)
        if tolerance > 0 and t < steps:
            final = _change(y, previous).mean(dim=(1, 2)).cpu() < tolerance
        yield Step(t, w, image, y, previous, rows, final)
        # Release the step's megapixel images before the next step is computed.
        del image, previous
        if final.all():
            return
        if final.any():
            rows, going = rows[~final], (~final).to(model.device)
            x, w, y = x[going], w[going], y[going]


def _check(model: Model, steps: int, start: Start | None, tolerance: float) -> None:
    if not 0 <= tolerance < math.inf:
        raise SpecError(f"tolerance is {tolerance}; a change of pixels from 0 on is expected")
    if steps < 1:
        raise SpecError(f"steps is {steps}; at least one is needed")
    if not model.iterative and (steps > 1 or start is not None):
        raise SpecError(
            f"encoder {model.encoder_name!r} of {model.config.name} works in a single pass; "
            "ask for steps=1 and no start"
        )
    wanted = (model.n_styles, model.style_dim)
    if start is not None and tuple(start.latents.shape[1:]) != wanted:
        raise SpecError(
            f"the start's latents are {list(start.latents.shape)}, "
            f"{model.config.name} works with [B, {wanted[0]}, {wanted[1]}]"
        )
