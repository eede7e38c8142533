"""Energies by frequency against sums over the spectrum, and waves whose band is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from restyle.core.errors import SpecError
from restyle.core.metrics.frequency_bands import band_edges, band_energies


def test_bands_are_octaves() -> None:
    assert band_edges((64, 64)) == [2, 4, 8, 16, math.inf]
    assert band_edges((192, 256)) == [2, 4, 8, 16, 32, 64, math.inf]
    with pytest.raises(SpecError, match="4 x 64"):
        band_edges((64, 4))


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (33, 40)])
def test_nothing_is_lost(size: tuple[int, int]) -> None:
    change = torch.randn(3, 3, *size)
    total = band_energies(change).sum(dim=1)
    torch.testing.assert_close(total, change.square().mean(dim=(1, 2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("across", "down", "band"),
    [(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 0, 1), (0, 3, 1), (4, 0, 2), (3, 3, 2), (9, 5, 3),
     (16, 0, 4), (31, 31, 4)],
)  # fmt: skip
def test_a_wave_is_in_its_band(across: int, down: int, band: int) -> None:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    wave = torch.cos(2 * torch.pi * (across * x + down * y) / 64).expand(1, 3, -1, -1)
    energies = band_energies(wave)[0]
    assert energies.argmax() == band
    assert energies[band] / energies.sum() > 0.9999


def test_bands_are_sums_over_rings_of_the_spectrum() -> None:
    change = torch.randn(1, 3, 24, 32)
    expected = np.zeros(len(band_edges((24, 32))))
    spectrum = np.abs(np.fft.fft2(change[0].double().numpy())) ** 2 / (24 * 32) ** 2 / 3
    for v in range(24):
        for u in range(32):
            # Cycles over 24 pixels in either way.
            vertical, horizontal = min(v, 24 - v), min(u, 32 - u) * 24 / 32
            radius = math.hypot(vertical, horizontal)
            band = next(i for i, edge in enumerate(band_edges((24, 32))) if radius < edge)
            expected[band] += spectrum[:, v, u].sum()
    np.testing.assert_allclose(band_energies(change)[0].numpy(), expected, rtol=1e-5)
