"""Training of directions: scores as by landmarks, slopes, units and ranges of made-up judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor

from recipes.faces64.directions import train as recipe
from recipes.faces64.directions.calibrate import UNIT, calibrated
from recipes.faces64.directions.judges import FloatArray, Judges, steady_scores
from recipes.faces64.directions.measure import slopes_of
from recipes.faces64.directions.predictor import (
    ATTRIBUTES,
    Labelled,
    Predictor,
    measured_by_landmarks,
)
from restyle.core.editing.attributes import SCORERS, measure
from restyle.core.editing.directions import About, Direction
from restyle.core.inference.model import Model, load_model


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("faces64", device="cpu", dtype="fp32")


def points(seed: int, count: int) -> np.ndarray:
    """Landmarks [N, 68, 2] whose eyes are apart."""
    found = np.random.default_rng(seed).normal(size=(count, 68, 2)) * 20 + 128
    found[:, 36:42, 0] -= 90
    found[:, 42:48, 0] += 90
    return found


def test_scores_are_those_of_the_landmarks() -> None:
    landmarks = points(0, 20)
    ours = measured_by_landmarks(torch.from_numpy(landmarks)).numpy()
    theirs = [[score(each) for score in SCORERS.values()] for each in landmarks]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    # The picture's scale and place do not matter.
    moved = torch.from_numpy(landmarks / 128 - 1)
    np.testing.assert_allclose(measured_by_landmarks(moved).numpy(), theirs, rtol=1e-9)


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    w, landmarks = np.random.default_rng(1).normal(size=(5, 512)), points(2, 5)
    rows = {"latent": w, "landmarks": landmarks.reshape(5, 136)}
    lists = {
        name: pa.FixedSizeListArray.from_arrays(
            pa.array(each.astype(np.float32).ravel()), each.shape[1]
        )
        for name, each in rows.items()
    }
    scores = {name: np.arange(5) + 10.0 * at for at, name in enumerate(ATTRIBUTES)}
    pq.write_table(pa.table({**lists, **scores}), tmp_path / "labels.parquet")
    labelled = Labelled(tmp_path / "labels.parquet")
    np.testing.assert_allclose(labelled.w, w, rtol=1e-6)
    np.testing.assert_allclose(labelled.landmarks, landmarks / 128 - 1, atol=1e-6)
    np.testing.assert_array_equal(labelled.scores[:, 3], np.arange(5) + 30)


def test_looks_of_a_picture_and_of_its_mirror_image_agree(model: Model) -> None:
    latent = model.generator.mean_latent().expand(1, model.n_styles, -1)
    image = model.synthesize(latent)[0].clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    picture = image.permute(1, 2, 0).numpy()
    scores, mirrored = steady_scores(picture), steady_scores(picture[:, ::-1].copy())
    # The turn of the head changes its side, and nothing else does.
    signs = [-1 if name == "pose" else 1 for name in SCORERS]
    np.testing.assert_allclose(mirrored, scores * signs, atol=1e-3)
    # One look is what an edit's row holds.
    (single,) = zip(*measure([Image.fromarray(picture)]).values(), strict=True)
    np.testing.assert_array_equal(steady_scores(picture, (0,)), single)
    looks = [steady_scores(picture, (number,)) for number in range(8)]
    np.testing.assert_allclose(scores, np.mean(looks, axis=0), rtol=1e-5)
    assert np.std(looks, axis=0).min() > 0
    # A picture without a face has no scores.
    assert np.isnan(steady_scores(np.zeros((64, 64, 3), np.uint8))).all()


def test_slopes_are_those_of_least_squares() -> None:
    strengths = (-3.0, -1.0, 0.0, 2.0)
    values = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    expected = np.polyfit(strengths, values.T, 1)[0]
    np.testing.assert_allclose(slopes_of(values, strengths), expected, rtol=1e-5)


class Steady(Judges):
    """The score is what the vector's first entry moved, up to a limit; faces vanish beyond."""

    def __init__(self, limit: float, lost_above: float) -> None:
        self._limit, self._lost_above = limit, lost_above

    def edits(
        self, model: Model, latents: Tensor, direction: Direction, strengths: Sequence[float]
    ) -> tuple[dict[str, FloatArray], FloatArray]:
        first = float(direction.vector[0]) * direction.about.scale
        moved = np.clip(np.array(strengths) * first, -self._limit, self._limit)
        scores = np.tile(moved, (10, 1)).astype(np.float32)
        scores[:2, np.array(strengths) > self._lost_above] = np.nan
        return {direction.name: scores}, np.ones_like(scores)


@pytest.mark.parametrize(
    ("limit", "lost_above", "reliable"),
    [(9, 9, (-3, 3)), (9, 2, (-3, 2)), (2.9, 9, (-1, 1)), (4.9, 9, (-2, 2)), (3.1, 1, (-2, 1))],
)
def test_units_and_ranges_are_those_that_judges_see(
    model: Model, limit: float, lost_above: float, reliable: tuple[float, float]
) -> None:
    # The attribute's deviation is 4, so that a unit should be 2.
    direction = Direction.of(np.eye(1, 512)[0], About(name="smile", kind="trained", scale=0.5))
    judges = Steady(limit, lost_above)
    found = calibrated(model, direction, torch.zeros(0), judges, 4.0)
    assert found.about.scale == pytest.approx(2)
    assert found.about.reliable == reliable


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_training_moves_the_wanted_score_alone(
    model: Model, monkeypatch: pytest.MonkeyPatch, colour: float
) -> None:
    """A predictor of colours stands for that of faces: red is the wanted score.

    What keeps the colours works against it.
    """

    class Colours(Predictor):
        def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
            red, green, blue = (3 * pictures.mean(dim=(2, 3))).unbind(1)
            return torch.stack([red, green, blue, 0 * red], dim=1), torch.zeros(1)

    monkeypatch.setitem(recipe.RECIPES, "smile", recipe.Recipe(identity=0.0, colour=colour))
    torch.manual_seed(0)
    z = torch.randn(40, model.generator.config.z_dim)
    with torch.no_grad():
        w = model.generator.mapping(z)[:, None].expand(-1, model.n_styles, -1)
    trainer = recipe.Trainer(model, Colours(), w)
    step = trainer.train("smile", torch.zeros(512), steps=40, batch=4)
    with torch.no_grad():
        images = [model.differentiable(w[:8] + at * step) for at in (-1, 1)]
        change = (3 * (images[1] - images[0]).mean(dim=(2, 3))).mean(dim=0)
    if colour:
        assert 0 < change[0] < UNIT
        return
    assert change[0] == pytest.approx(2 * UNIT, abs=0.35)
    assert change[1:].abs().max() < change[0] / 2
