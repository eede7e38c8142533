"""Energy of a change between images by spatial frequency, in octaves.

Shows that ReStyle's first steps change outline and colours, and later ones the detail (2104.02699,
section 4.3 and figure 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from restyle.core.errors import SpecError


def band_edges(size: tuple[int, int]) -> list[float]:
    """Upper ends of the bands, in cycles per shorter side of the image.

    The first band contains all frequencies below 2 cycles, including the mean; the others are
    octaves; the last one includes the corners of the spectrum.

    Args:
        size: height and width, at least 8.

    Raises:
        SpecError: the size is smaller.
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
        [B, bands] float32: mean square of each band from coarse to fine; the sum is the mean square
        of the change (Parseval).
    """
    height, width = change.shape[-2:]
    edges = band_edges((height, width))
    # Without a window, which would change the sum.
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
