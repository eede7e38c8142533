"""Editing of latents: directions, truncation, style mixing, interpolation; parsing of strengths."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from restyle.core.editing.directions import Direction, show_layers
from restyle.core.errors import SpecError

MAX_STRENGTHS = 1000
"""Maximum number of values of a range of strengths."""


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
        layers: the styles to move; the direction's own when None.

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
    """Interpolate from the average (psi 0) to the latents (psi 1).

    Args:
        latents: [B, n_styles, style_dim].
        average: [style_dim] or [n_styles, style_dim].
        psi: share of the distance from the average.
    """
    # The formula would change the latents by rounding at psi 1.
    return latents if psi == 1 else average + psi * (latents - average)


def mix(content: Tensor, style: Tensor, layers: Sequence[int]) -> Tensor:
    """Style mixing (1812.04948, section 3.1): replace some styles by those of other latents.

    Args:
        content: [B, n_styles, style_dim], or [1, ...] to mix one latent with all others.
        style: likewise; the source of the given layers.
        layers: indices of styles.

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
    """Linear interpolation between two latents, both included.

    Args:
        first: [n_styles, style_dim].
        last: likewise.
        frames: number of latents, at least 2.

    Returns:
        [frames, n_styles, style_dim].
    """
    if frames < 2:
        raise SpecError(f"{frames} frames; a line needs its two ends")
    return torch.lerp(first, last, torch.linspace(0, 1, frames)[:, None, None].to(first))


def parse_strengths(text: str) -> tuple[float, ...]:
    """Parse strengths.

    Args:
        text: ``2``, ``-1,0,1``, or ``-3..3/7`` for seven values from -3 to 3, both included.

    Raises:
        SpecError: the text has another form.
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
            # Rounded, so that zero is exact; the last value is exactly the given one.
            values = (*(round(low + step * index, 9) for index in range(count - 1)), high)
    except ValueError as error:
        raise wrong from error
    if not all(math.isfinite(value) for value in values) or len(values) > MAX_STRENGTHS:
        raise wrong
    return values
