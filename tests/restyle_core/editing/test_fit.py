"""Fits against made-up latents whose answer is known, and against slower definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from restyle.core.checkpoints.fingerprint import synthesis_fingerprint
from restyle.core.editing.directions import About, Direction
from restyle.core.editing.fit import (
    FitSettings,
    affine_weights,
    components,
    eigenvectors,
    fit_boundary,
    sample_latents,
    spread_along,
    without,
)
from restyle.core.editing.fitted import (
    Label,
    boundary_direction,
    component_directions,
    weight_directions,
)
from restyle.core.errors import SpecError
from restyle.core.inference.model import load_model
from restyle.core.networks.generator import Generator

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=16)
NORMAL /= np.linalg.norm(NORMAL)
LATENTS = (RNG.normal(size=(4000, 16)) * 3 + 5).astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    """The same numbers for every test, whichever run before it."""
    return np.random.default_rng(1).normal(size=shape)


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> Generator:
    return load_model(tiny_model, dtype="fp32", device="cpu").generator


def test_the_normal_of_a_known_plane_is_found() -> None:
    boundary = fit_boundary(LATENTS, np.exp(LATENTS @ NORMAL))
    assert boundary.normal @ NORMAL > 0.99
    assert np.linalg.norm(boundary.normal) == pytest.approx(1)
    assert boundary.scale == pytest.approx(3, rel=0.1)
    assert boundary.accuracy > 0.99
    assert boundary.accuracy_all > 0.95
    assert boundary.held_out == pytest.approx(0.3 * 0.25 * 4000, rel=0.2)


def test_accuracy_is_what_the_noise_allows() -> None:
    """Projection p and score p + noise, both normal: the share above the median on one side."""
    noise = normal(len(LATENTS)) * 3
    boundary = fit_boundary(LATENTS, LATENTS @ NORMAL + noise, FitSettings(held_out=0.5))
    # Correlation r gives 1/2 + asin(r)/pi for the medians.
    assert boundary.accuracy_all == pytest.approx(0.75, abs=0.03)
    low, best = norm.cdf(0.5), norm.cdf(1.6)
    assert low < boundary.accuracy < best


def test_scores_without_meaning_are_told_from_chance() -> None:
    boundary = fit_boundary(LATENTS, normal(len(LATENTS)))
    assert abs(boundary.accuracy_all - 0.5) < 0.08


def test_latents_without_a_score_are_left_out() -> None:
    scores = LATENTS @ NORMAL
    broken = LATENTS.copy()
    broken[::3], scores[::3] = 1e6, np.nan
    assert fit_boundary(broken, scores).normal @ NORMAL > 0.99


def test_a_plane_in_w_plus_has_a_row_for_each_style() -> None:
    latents = normal(3000, 4, 8).astype(np.float32)
    true = np.zeros((4, 8))
    true[1, 2] = 1
    boundary = fit_boundary(latents, latents[:, 1, 2])
    assert boundary.normal.shape == (4, 8)
    assert np.square(boundary.normal).sum(axis=1).mean() == pytest.approx(1)
    assert (boundary.normal * true).sum() / 2 > 0.97


def test_what_is_kept_is_not_moved() -> None:
    other = np.roll(NORMAL, 1)
    scores = LATENTS @ (NORMAL + 0.5 * other)
    boundary = fit_boundary(LATENTS, scores, kept=[other])
    assert abs(boundary.normal @ other) < 1e-9
    assert np.linalg.norm(boundary.normal) == pytest.approx(1)
    assert fit_boundary(LATENTS, scores).accuracy > boundary.accuracy > 0.8
    with pytest.raises(SpecError, match="nothing is left"):
        without(NORMAL, [2 * NORMAL])
    with pytest.raises(SpecError, match="different shapes"):
        without(NORMAL, [NORMAL[:8]])


@pytest.mark.parametrize(
    ("latents", "scores", "words"),
    [
        (LATENTS[:50], np.arange(50.0), "50 latents"),
        (LATENTS, np.ones(4000), "hardly differ"),
        (np.ones((200, 4), np.float32), np.arange(200.0), "do not differ"),
    ],
)
def test_impossible_fits_say_why(latents: np.ndarray, scores: np.ndarray, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        fit_boundary(latents, scores)


@pytest.mark.parametrize("fields", [{"outer": 0.6}, {"outer": 0}, {"held_out": 1}, {"penalty": -1}])
def test_impossible_settings_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="outer"):
        FitSettings(**fields)  # type: ignore[arg-type]


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    latents = normal(500, 12) * np.arange(1, 13)
    vectors, spreads = components(latents, 5)
    _, values, rows = np.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(spreads, values[:5] / np.sqrt(500), rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(vectors * rows[:5], axis=1)), 1, rtol=1e-9)
    np.testing.assert_allclose((latents @ vectors.T).std(axis=0), spreads, rtol=1e-9)
    assert (np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1) > 0).all()
    with pytest.raises(SpecError, match="components"):
        components(latents, 12)


def test_affine_weights_are_those_that_a_style_reaches(generator: Generator) -> None:
    """Change one style: the modulation that a layer computes changes where its weights say so."""
    affine = affine_weights(generator)
    assert len(affine) == generator.config.n_styles
    for style in (0, 1, 2, 5, generator.config.n_styles - 1):
        # A direction that no affine layer of this style reacts to changes nothing.
        stacked = np.concatenate(affine[style])
        _, _, rows = np.linalg.svd(stacked)
        base = torch.randn(1, generator.config.n_styles, generator.config.style_dim)
        moved = base.clone()
        if len(stacked) < generator.config.style_dim:
            moved[0, style] += torch.from_numpy(rows[-1]).float()
            torch.testing.assert_close(
                generator.synthesis(moved), generator.synthesis(base), atol=1e-4, rtol=1e-4
            )
        moved = base.clone()
        moved[0, style] += torch.from_numpy(rows[0]).float()
        assert (generator.synthesis(moved) - generator.synthesis(base)).abs().max() > 1e-3


def test_eigenvectors_are_singular_vectors_of_the_weights(generator: Generator) -> None:
    found = eigenvectors(generator, 3, (1, 2))
    weights = np.concatenate(
        [weight for style in (1, 2) for weight in affine_weights(generator)[style]]
    )
    _, _, rows = np.linalg.svd(weights)
    np.testing.assert_allclose(np.abs(np.sum(found * rows[:3], axis=1)), 1, rtol=1e-6)
    with pytest.raises(SpecError, match="styles 0-9"):
        eigenvectors(generator, 1, (10,))
    with pytest.raises(SpecError, match="33 directions"):
        eigenvectors(generator, 33)


def test_fitted_directions_say_what_they_are(generator: Generator) -> None:
    latents = sample_latents(generator, 600, seed=1)
    np.testing.assert_array_equal(latents, sample_latents(generator, 600, seed=1))
    label = Label("size", (0, 1), "a test")
    boundary = boundary_direction(generator, label, latents, latents[:, 3], FitSettings())
    parts = component_directions(generator, label, 2, latents)
    strong = weight_directions(generator, label, 2)
    assert [each.name for each in (boundary, *parts, *strong)] == (
        ["size", "size-0", "size-1", "size-0", "size-1"]
    )
    for each in (boundary, *parts, *strong):
        assert each.about.layers == (0, 1)
        assert each.about.generator == synthesis_fingerprint(generator)
    for each in (boundary, *parts):
        moved = spread_along(latents, each.vector.astype(np.float64))
        assert each.about.scale == pytest.approx(moved, rel=1e-4)
    other = Direction.of(latents[0], About(name="other", kind="imported", scale=1))
    kept = boundary_direction(generator, label, latents, latents[:, 3], FitSettings(), [other])
    assert abs(kept.vector @ other.vector) < 1e-6
    with pytest.raises(SpecError, match="not this generator's"):
        component_directions(generator, label, 2, latents[:, :16])


def test_the_fingerprint_knows_the_synthesis_alone(tiny_model: Path) -> None:
    generator = load_model(tiny_model, device="cpu").generator
    before = synthesis_fingerprint(generator)
    with torch.no_grad():
        generator.state_dict()["style.1.weight"] += 1
    assert synthesis_fingerprint(generator) == before
    with torch.no_grad():
        generator.state_dict()["conv1.noise.weight"] += 1
    assert synthesis_fingerprint(generator) != before
