"""How coarse a change is: its energy by spatial frequency, in octaves.

ReStyle's first steps move the outline and the colours, later ones the detail (2104.02699,
section 4.3 and figure 5); this measures it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restyle.core.errors import SpecError


def band_edges(size: tuple[int, int]) -> list[float]:
    """Upper ends of the bands, in cycles over the image's shorter side.

    The first band is everything below 2 cycles, the mean included; each of the others is an octave;
    the last also takes the corners of the spectrum.

    Args:
        size: height and width; 8 at least.

    Raises:
        SpecError: the images are smaller.
    """
    if min(size) < 8:
        raise SpecError(f"images of {size[1]} x {size[0]} pixels have no bands to speak of")
    edges = [2.0]
    while edges[-1] * 2 < min(size) / 2:
        edges.append(edges[-1] * 2)
    return [*edges, float("inf")]


def band_energies(change: Tensor) -> Tensor:
    """Split the energy of a change into octaves of spatial frequency.

    Args:
        change: [B, C, h, w], the difference of two images.

    Returns:
        [B, bands] float32: mean square of what each band contributes, coarse to fine; the sum is
        the mean square of the change (Parseval).
    """
    height, width = change.shape[-2:]
    edges = band_edges((height, width))
    # Without a window: what it took from the margins would be missing from the sum.
    power = torch.fft.fft2(change.double(), norm="forward").abs().square().mean(dim=1)
    side = min(height, width)
    down = torch.fft.fftfreq(height, dtype=torch.float64) * side
    across = torch.fft.fftfreq(width, dtype=torch.float64) * side
    radius = torch.hypot(down[:, None], across[None, :]).to(power.device)
    low = 0.0
    bands = []
    for high in edges:
        inside = (radius >= low) & (radius < high)
        bands.append((power * inside).sum(dim=(1, 2)))
        low = high
    return torch.stack(bands, dim=1).float()
