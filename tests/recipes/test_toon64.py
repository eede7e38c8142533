"""The cartoon is drawn where the face is, and the model that ships has learned to draw it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recipes.toon64.cartoon import SIZE, cartoon, guided
from recipes.toon64.drawing import smooth_contour
from recipes.toon64.pairs import draw, render
from restyle.core.faces.landmarks import fit_landmarks
from restyle.core.inference.model import Model, load_model
from restyle.core.networks.config import embedded_models


@pytest.fixture(scope="module")
def faces64() -> Model:
    return load_model("faces64", device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def toon64() -> Model:
    return load_model("toon64", device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def latents(faces64: Model) -> torch.Tensor:
    """Latents [16, n_styles, style_dim], drawn with a little truncation."""
    source = torch.Generator().manual_seed(77)
    generator = faces64.generator
    with torch.no_grad():
        w = generator.mapping(torch.randn(16, generator.config.z_dim, generator=source))
        w = generator.mean_latent() + 0.8 * (w - generator.mean_latent())
    return w[:, None].expand(-1, faces64.n_styles, -1)


@pytest.fixture(scope="module")
def photos(faces64: Model, latents: torch.Tensor) -> np.ndarray:
    return render(faces64, latents)


def test_a_cartoon_has_white_eyes_where_the_face_has_eyes(photos: np.ndarray) -> None:
    drawing = np.asarray(cartoon(Image.fromarray(photos[0]))).astype(int)
    enlarged = Image.fromarray(photos[0]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    landmarks = fit_landmarks(np.asarray(enlarged))
    for eye in (landmarks[36:42], landmarks[42:48]):
        x, y = eye.mean(axis=0).round().astype(int)
        around = drawing[y - 14 : y + 14, x - 22 : x + 22].reshape(-1, 3)
        assert (around.min(axis=1) > 235).mean() > 0.03
        assert (around.max(axis=1) < 80).mean() > 0.05


def test_the_same_picture_gives_the_same_drawing(photos: np.ndarray) -> None:
    first, second = draw(photos[1]), draw(photos[1])
    assert first.shape == photos[1].shape
    assert np.array_equal(first, second)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_without_a_face_is_drawn_as_well(level: int) -> None:
    drawing = draw(np.full((64, 64, 3), level, np.uint8))
    assert drawing.shape == (64, 64, 3)


def test_smoothing_keeps_edges_and_removes_grain() -> None:
    random = np.random.default_rng(0)
    step = np.repeat(np.where(np.arange(64) < 32, 0.2, 0.8)[None, :, None], 64, 0).repeat(3, 2)
    grain = random.normal(0, 0.02, step.shape)
    smooth = guided((step + grain).astype(np.float32), 4, 0.06)
    left, right = smooth[8:-8, 30].mean(), smooth[8:-8, 33].mean()
    assert right - left > 0.5
    assert smooth[8:-8, 8:24].std() < 0.4 * grain.std()


def test_contours_pass_through_their_points() -> None:
    points = np.array([(0.0, 0.0), (4.0, 1.0), (5.0, 6.0)])
    open_curve = np.array(smooth_contour(points, closed=False, samples=4))
    assert np.allclose(open_curve[[0, 4, 8]], points)
    closed = np.array(smooth_contour(points, closed=True, samples=4))
    assert np.allclose(closed[[0, 4, 8, 12]], points[[0, 1, 2, 0]])


def test_both_models_agree_on_what_a_z_is(faces64: Model, toon64: Model) -> None:
    z = torch.randn(4, faces64.generator.config.z_dim)
    assert torch.equal(faces64.generator.mapping(z), toon64.generator.mapping(z))


def test_the_generator_draws_what_the_rule_draws(
    toon64: Model, latents: torch.Tensor, photos: np.ndarray
) -> None:
    made = render(toon64, latents).astype(float)
    drawn = np.stack([draw(photo) for photo in photos]).astype(float)
    to_drawing = np.abs(made - drawn).mean(axis=(1, 2, 3))
    assert (to_drawing < 0.5 * np.abs(photos - drawn).mean(axis=(1, 2, 3))).mean() > 0.7
    # No other latent's drawing is nearer.
    apart = np.abs(made[:, None] - drawn[None]).mean(axis=(2, 3, 4))
    assert (apart.argmin(axis=1) == np.arange(len(made))).mean() > 0.9


def test_the_model_is_small_enough_to_ship() -> None:
    folder: Path = embedded_models()["toon64"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15e6
    assert "DigiFace" in (folder / "README.md").read_text()
