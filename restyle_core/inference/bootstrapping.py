"""Encoder bootstrapping (2104.02699, section 5): one model's first step, refined by another model.

A photograph is far from the images of a cartoon model. The photo model takes the first step from
its average; the cartoon model continues from that latent and image. Both generators must share a
latent space, as a generator and its fine-tuned copy do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from restyle.core.errors import SpecError
from restyle.core.imaging.preprocessing import Images, to_bytes
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import Model
from restyle.core.inference.results import Inversion


def check_compatible(first: Model, model: Model) -> None:
    """Check that ``model`` can continue from a step of ``first``.

    Raises:
        SpecError: their latents or inputs have different shapes, or ``model`` is single-pass.
    """
    for what, one, other in (
        ("latents", (first.n_styles, first.style_dim), (model.n_styles, model.style_dim)),
        ("inputs", first.config.image_size, model.config.image_size),
    ):
        if one != other:
            raise SpecError(
                f"{model.config.name} cannot go on from {first.config.name}: "
                f"its {what} are {other[0]} x {other[1]}, the other's {one[0]} x {one[1]}"
            )
    if not model.iterative:
        raise SpecError(
            f"encoder {model.encoder_name!r} of {model.config.name} works in a single pass; "
            "it cannot go on from another model"
        )


def invert_bootstrapped(
    first: Model, model: Model, images: Images, steps: int = 6, **options: Any
) -> Inversion:
    """Invert images, with the first step by another model.

    Args:
        first: model of the first step, for example of photographs.
        model: model of the remaining steps, for example of cartoons.
        images: as for :func:`restyle.invert`.
        steps: total number of steps, at least 2.
        options: as for :func:`restyle.invert`, without ``start``.

    Returns:
        The result of all steps; the image of the first step is rendered by ``first``.

    Raises:
        SpecError: the models are incompatible, or options contradict each other.
    """
    check_compatible(first, model)
    if steps < 2:
        raise SpecError(f"steps is {steps}; the first is {first.config.name}'s, one more is needed")
    kept = options.get("reconstructions", "last")
    # The second model starts from the image, so it is kept in any case.
    alone = {"reconstructions": "last", "eight_bit": False, "polish": 0, "tuning": 0}
    began = invert(first, images, 1, **(options | alone))
    ended = invert(model, images, steps - 1, start=began, **options)
    before = began.reconstructions
    if before is not None and options.get("eight_bit"):
        before = to_bytes(before)
    last_latents = options.get("latents", "all") == "last"
    return replace(
        ended,
        steps=1 + ended.steps,
        latents=ended.latents if last_latents else torch.cat([began.latents, ended.latents], 1),
        reconstructions=(
            _joined(before, ended.reconstructions) if kept == "all" else ended.reconstructions
        ),
        metrics={
            name: torch.cat([began.metrics[name], values], 1)
            for name, values in ended.metrics.items()
        },
        deltas=_joined(began.deltas, ended.deltas),
        heatmaps=_joined(began.heatmaps, ended.heatmaps),
    )


def _joined(first: Tensor | None, rest: Tensor | None) -> Tensor | None:
    return None if first is None or rest is None else torch.cat([first, rest], dim=1)
