"""The way from images to latents: an encoder, then optimisation, then tuning of the generator.

Each part may be left out. The encoder's steps, the optimisation and the tuning are steps alike:
each ends in a latent with its image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from restyle.core.errors import SpecError
from restyle.core.inference.model import Model
from restyle.core.inference.optimization import Descent, descend
from restyle.core.inference.refinement import Start, Step, refine
from restyle.core.inference.tuning import Tuning, Weights, of_face, tune

Origin = Literal["encoder", "average"]
"""Where an optimisation starts: at the encoder's last latent, or at the average one."""


@dataclass(frozen=True)
class Way:
    """Steps of the parts.

    Attributes:
        steps: refinement steps of the encoder; 0 for an optimisation from the average.
        tolerance: as for :func:`restyle.core.inference.refinement.refine`.
        polish: steps of optimisation; 0 for none.
        target: loss at which an image is not optimised further; 0 for none.
        tuning: steps of tuning of the generator; 0 for none.
        seed: of what is random in optimisation and tuning.
        noise: in the first latents of an optimisation, as of
            :class:`restyle.core.inference.optimization.Descent`.

    Raises:
        SpecError: they contradict each other.
    """

    steps: int = 5
    tolerance: float = 0.0
    polish: int = 0
    target: float = 0.0
    tuning: int = 0
    seed: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, steps, doing in (
            ("polish", self.polish, "polishing"),
            ("tuning", self.tuning, "tuning"),
        ):
            if steps < 0:
                raise SpecError(f"{name} is {steps}; a number of steps from 0 on is expected")
            if steps and self.tolerance:
                raise SpecError(
                    f"{name} is {steps} and tolerance {self.tolerance}; leave one out: "
                    f"{doing} takes longer than all steps that the other could save"
                )
        if not self.steps and not self.polish:
            raise SpecError(
                "steps is 0 and so is polish; a step of the encoder or of optimisation is needed"
            )

    @property
    def rows(self) -> int:
        """Number of steps with a latent of their own; optimisation and tuning have one each."""
        return self.steps + (self.polish > 0) + (self.tuning > 0)

    @property
    def optimizes(self) -> bool:
        """Whether latents or generators are found by gradient descent."""
        return self.polish > 0 or self.tuning > 0


def walk(
    model: Model,
    x: Tensor,
    way: Way,
    start: Start | None = None,
    stepped: Callable[[], None] | None = None,
    count: int | None = None,
) -> Iterator[Step]:
    """Go the whole way with a batch of images.

    Args:
        model: a generator and its encoder.
        x: [B, 3, h, w] in [-1, 1], from ``model.preprocess``.
        way: the steps.
        start: as for :func:`restyle.core.inference.refinement.refine`.
        stepped: called after each step of optimisation and tuning, as a sign of progress.
        count: the first so many images are wanted; the others, which have the generator of the
            last one, only fill the batch up. All when None.

    Yields:
        Each :class:`Step`.

    Raises:
        SpecError: as for :func:`restyle.core.inference.refinement.refine`.
    """
    if not way.optimizes:
        yield from refine(model, x, way.steps, start, tolerance=way.tolerance)
        return
    step = _average(model, x)
    made = refine(model, x, way.steps, start) if way.steps else iter(())
    for step in made:
        yield _passing(step, ends=step.index == way.steps)
    if way.polish:
        step = _optimized(model, x, way, step, stepped)
        yield _passing(step, ends=True) if way.tuning else step
    if way.tuning:
        yield _tuned(model, x, way, step, stepped, len(x) if count is None else count)


def _average(model: Model, x: Tensor) -> Step:
    """What optimisation starts at without an encoder; not a step that counts."""
    count, pooled = len(x), model.average_image.expand(len(x), -1, -1, -1)
    latents = model.latent_avg.expand(count, -1, -1)
    final = torch.zeros(count, dtype=torch.bool)
    return Step(0, latents, pooled, pooled, pooled, torch.arange(count), final)


def _passing(step: Step, *, ends: bool) -> Step:
    """A step that others follow; ``ends`` if it is its part's last one."""
    return replace(step, final=torch.zeros_like(step.final), ends_part=ends)


def _optimized(
    model: Model, x: Tensor, way: Way, before: Step, stepped: Callable[[], None] | None
) -> Step:
    descent = Descent(way.polish, way.noise, way.target, way.seed)
    found = descend(model, x, before.latents, descent, stepped)
    with torch.inference_mode():
        image = model.synthesize(found.latents)
        return _after(before, found.latents, image, model.pool(image), found.iterations)


def _tuned(
    model: Model,
    x: Tensor,
    way: Way,
    before: Step,
    stepped: Callable[[], None] | None,
    count: int,
) -> Step:
    wanted = tune(model, x[:count], before.latents[:count], Tuning(way.tuning, way.seed), stepped)
    faces = [min(index, count - 1) for index in range(len(x))]
    weights = {name: values[faces] for name, values in wanted.items()}
    with torch.inference_mode():
        image = render_tuned(model, before.latents, weights)
        made = _after(before, before.latents, image, model.pool(image))
    return replace(made, weights=weights)


def render_tuned(model: Model, latents: Tensor, weights: Weights) -> Tensor:
    """Render each latent [B, n_styles, style_dim] with its own generator: [B, 3, H, W]."""
    images = [
        model.tuned(of_face(weights, index)).synthesize(latent[None])
        for index, latent in enumerate(latents)
    ]
    return torch.cat(images)


def _after(
    before: Step, latents: Tensor, image: Tensor, pooled: Tensor, iterations: Tensor | None = None
) -> Step:
    final = torch.ones_like(before.final)
    return Step(
        before.index + 1,
        latents,
        image,
        pooled,
        before.pooled,
        before.rows,
        final,
        iterations=iterations,
    )
