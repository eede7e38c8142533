"""Colours: Lab as scikit-image computes it, casts as they were made, gradients that are finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from recipes.faces64.directions.colours import PATCHES, cast, lab


def pictures(seed: int, count: int = 3) -> torch.Tensor:
    """[N, 3, 16, 16] in [-1, 1], with black and white among the pixels."""
    drawn = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    drawn[0, :, 0] = -1
    drawn[0, :, 1] = 1
    return drawn


def test_lab_is_that_of_scikit_image() -> None:
    shown = pictures(0)
    theirs = rgb2lab(((shown + 1) / 2).permute(0, 2, 3, 1).numpy())
    ours = lab(shown).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_what_lies_beyond_is_clamped() -> None:
    shown = pictures(1)
    torch.testing.assert_close(lab(shown * 3), lab((shown * 3).clamp(-1, 1)))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (3, 2)])
def test_a_cast_is_told_where_it_is(row: int, column: int) -> None:
    before = torch.zeros(2, 3, 16, 16)
    after = before.clone()
    side = 16 // PATCHES
    part = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
    after[1, 2, part[0], part[1]] = -0.5
    whole, patches = cast(before, after)
    # Less blue is yellower: b* rises in this patch alone, and in the whole by its share.
    assert patches[1, 2, row, column] > 5
    elsewhere = patches[1, 2].abs().sum() - patches[1, 2, row, column]
    assert elsewhere == pytest.approx(0, abs=1e-3)
    torch.testing.assert_close(whole[1], patches[1, :, row, column] / PATCHES**2)
    assert whole[0].abs().max() == 0


def test_gradients_are_finite_in_black_and_white() -> None:
    shown = pictures(2).requires_grad_(True)
    cast(torch.zeros_like(shown), shown)[1].square().sum().backward()
    assert shown.grad is not None
    assert torch.isfinite(shown.grad).all()
    assert shown.grad.abs().max() > 0
