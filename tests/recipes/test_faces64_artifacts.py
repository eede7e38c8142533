"""The scores that find broken samples rise where something is broken, and only there."""

from __future__ import annotations

import numpy as np
import torch

from recipes.faces64.artifacts import Familiar, roughness, saturated


def test_saturation_is_the_share_of_pixels_with_a_channel_at_its_end() -> None:
    images = torch.zeros(2, 3, 8, 8)
    images[1, 0, :2] = 1
    images[1, 2, :2, :4] = -1
    assert saturated(images).tolist() == [0, 0.25]


def test_a_fringe_is_detail_of_colour_and_noise_of_grey_is_not() -> None:
    smooth = torch.linspace(-0.5, 0.5, 32).expand(1, 3, 32, 32)
    fringed, noisy = smooth.clone(), smooth.clone()
    fringed[:, 0, 8:16, 9] += 0.3
    fringed[:, 2, 8:16, 9] -= 0.3
    torch.manual_seed(0)
    noisy += 0.1 * torch.randn(1, 1, 32, 32)
    grey, colour = roughness(torch.cat([smooth, fringed, noisy]))
    assert colour[1] > 1e3 * max(colour[0], colour[2])
    assert grey[2] > 100 * grey[0]
    # One block out of sixteen is as bad as all.
    whole = smooth.clone()
    whole[:, 0, :, 9] += 0.3
    whole[:, 2, :, 9] -= 0.3
    torch.testing.assert_close(roughness(whole)[1], colour[1:2], rtol=0.3, atol=0)


def test_distance_is_mahalanobis_within_the_components() -> None:
    source = np.random.default_rng(0)
    features = source.normal(size=(5000, 6)) * np.arange(1, 7) + 3
    familiar = Familiar.of(features, dimensions=6)
    inverse = np.linalg.inv(np.cov(features, rowvar=False))
    offset = features[:10] - features.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", offset, inverse, offset))
    np.testing.assert_allclose(familiar.distance(features[:10]), expected)
