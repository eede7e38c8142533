"""Encoder bootstrapping (2104.02699, section 5): one model's first guess, refined by another.

A photograph lies far from what a cartoon model can make. The photo model's encoder takes the first
step from its own average; the cartoon model goes on from that latent and that image, and its own
average is not used. Both must read styles in the same way: a generator that was fine-tuned from
the other's does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from restyle.core.errors import SpecError
from restyle.core.imaging.preprocessing import Images, to_bytes
from restyle.core.inference.inversion import Inversion, invert
from restyle.core.inference.model import Model


def check_compatible(first: Model, model: Model) -> None:
    """Find out whether a model can go on from where another came to.

    Raises:
        SpecError: their latents or their images are of different shapes, or the second one does
            not refine.
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
    """Invert images into one model's latents from another model's first step.

    Args:
        first: takes the first step; of photographs, where ``model`` is of cartoons.
        model: takes the others.
        images: as for :func:`restyle.invert`.
        steps: in all, the first one included; two at least.
        options: as for :func:`restyle.invert`, without ``start``.

    Returns:
        What was asked for, of all steps: the first one's image is ``first``'s.

    Raises:
        SpecError: the models do not go together, or options contradict.
    """
    check_compatible(first, model)
    if steps < 2:
        raise SpecError(f"steps is {steps}; the first is {first.config.name}'s, one more is needed")
    kept = options.get("reconstructions", "last")
    # The image is what the other model goes on from, so it is kept in any case.
    began = invert(first, images, 1, **(options | {"reconstructions": "last", "eight_bit": False}))
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
