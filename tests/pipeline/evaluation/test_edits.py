"""Edits at equal change, and distances of sets of pictures, against plain computations."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import torch
from PIL import Image

from restyle.core.errors import SpecError
from restyle.core.faces.alignment import Framing
from restyle.core.metrics.measures import MetricSet
from restyle.pipeline.evaluation.edits import STRENGTHS, direction_of
from restyle.pipeline.evaluation.request import EvaluationRequest
from restyle.pipeline.evaluation.run import evaluate
from tests.pipeline.evaluation.conftest import request_of

METHODS = ("restyle:1", "single-pass")
CHANGES = (-0.05, 0.05, 5.0)
KEY = ["image_id", "face"]


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory, some_photos: Path) -> Path:
    """An evaluation with edits by the embedded model."""
    out = tmp_path_factory.mktemp("edited") / "out"
    request = request_of(some_photos, out, Path("faces64"), *METHODS)
    base = dataclasses.replace(
        request.base, settings=request.base.settings.model_copy(update={"metrics": ("l2",)})
    )
    evaluate(EvaluationRequest(base, METHODS, ("faces64",), "smile", CHANGES))
    return out


def folder(out: Path, kind: str, method: str) -> Path:
    (found,) = (out / kind).glob(f"{method.replace(':', '-')}-*")
    return found


def rows_of(out: Path, method: str, edit: str) -> pd.Series:
    table = pd.read_parquet(out / "table.parquet")
    return table[(table.method == method) & (table.edit == edit)].set_index("measure")


def pictures(rows: pd.DataFrame) -> torch.Tensor:
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in rows["image"]]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def inputs(out: Path, step: int) -> pd.DataFrame:
    rows = pd.read_parquet(folder(out, "methods", METHODS[0]) / "reconstructions")
    return rows[rows.step == step].sort_values(KEY, ignore_index=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", CHANGES[:2])
def test_strengths_lie_where_the_mean_score_has_changed_by_so_much(
    edited: Path, method: str, change: float
) -> None:
    tried = pd.read_parquet(folder(edited, "strengths", method) / "edits")
    scores = tried.pivot(index=KEY, columns="strength_smile", values="smile").dropna()
    assert scores.columns.tolist() == list(STRENGTHS)
    means = scores.mean().astype(float)
    rows = rows_of(edited, method, f"smile {change:+g}")
    at = rows.loc["strength", "mean"]
    low, high = np.floor(at), np.floor(at) + 1
    between = means[low] + (at - low) * (means[high] - means[low])
    assert np.isclose(between - means[0.0], change, atol=1e-4)
    # Between the strengths the score need not be straight.
    assert abs(rows.loc["change", "mean"] - change) < 0.04


@pytest.mark.parametrize("method", METHODS)
def test_identity_is_that_of_the_pictures(edited: Path, method: str) -> None:
    edits = pd.read_parquet(folder(edited, "edits", method) / "edits")
    photographs = pictures(inputs(edited, 0))
    measure = MetricSet(["id_similarity"], framing=Framing(0.7, 0.02))
    for change in CHANGES[:2]:
        rows = rows_of(edited, method, f"smile {change:+g}")
        at = np.float32(rows.loc["strength", "mean"])
        own = edits[edits.strength_smile == at].sort_values(KEY, ignore_index=True)
        found = measure(pictures(own), photographs)["id_similarity"]
        assert np.isclose(rows.loc["id_photograph", "mean"], found.mean(), atol=1e-4)
        assert np.isclose(rows.loc["id_kept", "mean"], own["id_similarity"].mean(), atol=1e-6)
        assert np.isclose(rows.loc["change", "mean"], own["smile_change"].mean(), atol=1e-6)


def test_a_change_that_no_strength_makes_is_noted_and_left_out(edited: Path) -> None:
    table = pd.read_parquet(edited / "table.parquet")
    assert set(table.edit) == {"", "smile -0.05", "smile +0.05"}
    text = (edited / "table.md").read_text()
    for method in METHODS:
        assert f"{method}, faces64:" in text
    assert text.count("no strength from -3 to 3 changes the smile by +5") == len(METHODS)


def test_the_frechet_distance_is_that_of_the_embeddings(edited: Path) -> None:
    from restyle.core.faces.recognition import chips_from_crops, load_face_embedder

    def features(images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            chips = chips_from_crops(images, Framing(0.7, 0.02))
            return load_face_embedder()(chips).double().numpy()

    one, other = features(pictures(inputs(edited, 1))), features(pictures(inputs(edited, 0)))
    means = one.mean(axis=0) - other.mean(axis=0)
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    wanted = means @ means + np.trace(a + b - 2 * root)
    assert np.isclose(rows_of(edited, METHODS[0], "").loc["frechet", "mean"], wanted, rtol=0.02)


def test_every_edited_face_is_on_the_page(edited: Path) -> None:
    page = (edited / "evaluation.html").read_text()
    faces = len(inputs(edited, 0))
    assert page.count(", smile +0.05, ") == (1 + len(METHODS)) * faces
    assert page.count(", smile +0.05, input") == faces
    for made in ("strengths", "edits"):
        for method in METHODS:
            run = json.loads((folder(edited, made, method) / "run.json").read_bytes())
            assert run["state"] == "complete"


def test_a_model_without_the_direction_has_no_edits(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tmp_path, tmp_path / "out", tiny_model)
    assert direction_of(request, [str(tiny_model)]) is None
    with pytest.raises(SpecError, match="no direction 'pose'"):
        direction_of(dataclasses.replace(request, direction="pose"), [str(tiny_model)])
    assert direction_of(dataclasses.replace(request, direction="none"), ["faces64"]) is None
