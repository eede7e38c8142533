"""Frechet distance against scipy's matrix square root and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from restyle.core.errors import SpecError
from restyle.core.metrics.frechet import frechet_distance


def by_definition(a, b):
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(axis=0) - b.mean(axis=0)
    return shift @ shift + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 24))
def test_equals_scipy(seed, width):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(200, width)) @ rng.normal(size=(width, width))
    b = rng.normal(size=(150, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    assert frechet_distance(a, b) == pytest.approx(by_definition(a, b), rel=1e-8)


def whitened(rng, count, width):
    """Samples whose mean is 0 and whose covariance is the identity, exactly."""
    x = rng.normal(size=(count, width))
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


def test_closed_form_of_gaussians_with_diagonal_covariance():
    rng = np.random.default_rng(1)
    s1, s2, shift = (rng.uniform(0.5, 3, 8) for _ in range(3))
    a = whitened(rng, 100, 8) * s1
    b = whitened(rng, 300, 8) * s2 + shift
    assert frechet_distance(a, b) == pytest.approx((shift**2).sum() + ((s1 - s2) ** 2).sum())


def test_a_set_against_itself_and_against_a_rotation_of_both():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(50, 6)), rng.normal(1, 2, size=(60, 6))
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))


def test_fewer_samples_than_dimensions_stay_real_and_finite():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(10, 64)), rng.normal(size=(12, 64))
    # tr sqrt(C1 C2) through the nonzero eigenvalues of the product, without any matrix root.
    product = np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)
    root = np.sqrt(np.clip(np.linalg.eigvals(product).real, 0, None)).sum()
    traces = np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3))),
        (np.zeros((5, 3)), np.zeros((5, 4))),
        (np.zeros(5), np.zeros((5, 3))),
        (np.full((5, 3), np.nan), np.zeros((5, 3))),
    ],
)
def test_senseless_input_is_refused(a, b):
    with pytest.raises(SpecError):
        frechet_distance(a, b)
