"""Editing: moving latents along directions, and strengths as a person writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from restyle.core.editing.directions import Direction, show_layers
from restyle.core.errors import SpecError

MAX_STRENGTHS = 1000
"""Most values that a range of strengths may have."""


def apply(
    latents: Tensor,
    direction: Direction,
    strength: float | Tensor,
    layers: Sequence[int] | None = None,
) -> Tensor:
    """Move latents along a direction.

    Args:
        latents: [B, n_styles, style_dim], w+ codes.
        direction: of the same style_dim.
        strength: in units of the direction's scale; one for all latents, or [B].
        layers: the styles to move; None for those that the direction is meant for.

    Returns:
        [B, n_styles, style_dim] of the latents' dtype, on their device; a new tensor.

    Raises:
        SpecError: the direction or the layers do not fit the latents.
    """
    _, n_styles, style_dim = latents.shape
    rows = direction.styles((n_styles, style_dim), layers)
    vector = torch.from_numpy(direction.vector).to(latents.device, torch.float32)
    step = vector.expand(n_styles, -1) * direction.about.scale
    amount = torch.as_tensor(strength, dtype=torch.float32, device=latents.device)
    edited = latents.float().clone()
    edited[:, rows] += amount.reshape(-1, 1, 1) * step[rows]
    return edited.to(latents.dtype)


def truncate(latents: Tensor, average: Tensor, psi: float) -> Tensor:
    """Pull latents towards the average: psi 1 leaves them as they are, 0 gives the average.

    Args:
        latents: [B, n_styles, style_dim].
        average: [style_dim] or [n_styles, style_dim].
        psi: the share of the distance that is kept.
    """
    # Computed, it would be a rounding away from what it was.
    return latents if psi == 1 else average + psi * (latents - average)


def mix(content: Tensor, style: Tensor, layers: Sequence[int]) -> Tensor:
    """Style mixing (1812.04948, section 3.1): some layers of one latent, the rest of another.

    Args:
        content: [B, n_styles, style_dim], or [1, ...] for one that all are mixed with.
        style: the same, where the given layers come from.
        layers: numbers of styles.

    Returns:
        [B, n_styles, style_dim].

    Raises:
        SpecError: there are no such layers.
    """
    n_styles = content.shape[1]
    if not layers or max(layers) >= n_styles:
        raise SpecError(f"layers {show_layers(layers)}: the latents have styles 0-{n_styles - 1}")
    rows = max(len(content), len(style))
    mixed = content.expand(rows, -1, -1).clone()
    mixed[:, list(layers)] = style.expand(rows, -1, -1)[:, list(layers)]
    return mixed


def interpolate(first: Tensor, last: Tensor, frames: int) -> Tensor:
    """The straight line between two latents, both ends included.

    Args:
        first: [n_styles, style_dim].
        last: the same.
        frames: how many latents, two at least.

    Returns:
        [frames, n_styles, style_dim].
    """
    if frames < 2:
        raise SpecError(f"{frames} frames; a line needs its two ends")
    return torch.lerp(first, last, torch.linspace(0, 1, frames)[:, None, None].to(first))


def parse_strengths(text: str) -> tuple[float, ...]:
    """Strengths as a person writes them.

    Args:
        text: ``2``, ``-1,0,1``, or ``-3..3/7`` for seven values from -3 to 3, both included.

    Raises:
        SpecError: it is not written like that.
    """
    wrong = SpecError(
        f"strength {text!r}: write a number, several as -1,0,1, or -3..3/7 for seven from -3 to 3"
    )
    match = re.fullmatch(r"\s*([^\s/]+?)\s*\.\.\s*([^\s/]+?)\s*/\s*(\d{1,6})\s*", text, re.ASCII)
    try:
        if match is None:
            values = tuple(float(part) for part in text.split(","))
        else:
            low, high, count = float(match[1]), float(match[2]), int(match[3])
            if not 2 <= count <= MAX_STRENGTHS:
                raise SpecError(f"strength {text!r}: a range has 2 to {MAX_STRENGTHS} values")
            step = (high - low) / (count - 1)
            # The last as it was written, and no rounding left over where zero is meant.
            values = (*(round(low + step * index, 9) for index in range(count - 1)), high)
    except ValueError as error:
        raise wrong from error
    if not all(math.isfinite(value) for value in values) or len(values) > MAX_STRENGTHS:
        raise wrong
    return values
