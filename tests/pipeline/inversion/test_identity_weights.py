"""``--identity-weights``: identity by the user's recogniser is measured, recorded and continued."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from restyle.core.errors import CheckpointError, RejectReason, SpecError
from restyle.core.faces.arcface import load_recogniser
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from restyle.core.networks.config import file_sha256
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.retry import Retry, retry_rejects
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from tests.pipeline.in_process import in_process
from tests.restyle_core.fabricate import save
from tests.restyle_core.faces.test_arcface import recogniser

METRICS = ("l2", "id_similarity")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save(recogniser("curricular"), tmp_path / "CurricularFace_Backbone.pth")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{index}.png")
    (folder / "x.png").write_bytes(b"text")
    return folder


def request(images: Path, out: Path, model: Path, weights: Path | None, **more: object) -> Request:
    settings = InversionSettings(
        model=str(model),
        steps=1,
        align=False,
        metrics=METRICS,
        dtype="fp32",
        identity_weights=None if weights is None else str(weights),
    ).model_copy(update=more)
    return Request(str(images), str(out), settings)


def test_identity_is_measured_by_the_named_weights_and_recorded(
    images: Path, weights: Path, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    invert_images(request(images, out, tiny_model, weights), engine=in_process)
    assert verify(str(out)).problems == []
    table = pq.ParquetDataset(out / "latents")
    definition = table.schema.field("id_similarity").metadata[b"definition"].decode()
    assert definition == f"cosine of embeddings (512-d) of CurricularFace {file_sha256(weights)}"
    run = json.loads((out / "run.json").read_text())
    assert str(weights) in json.dumps(run)

    pixels = np.stack([np.asarray(Image.open(images / f"{index}.png")) for index in range(3)])
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    result = invert(model, pixels, 1, reconstructions="last")
    assert result.image is not None
    network = load_recogniser(weights)
    with torch.no_grad():
        targets, made = (
            network(network.chips(each, model.framing))
            for each in (model.preprocess(pixels), model.pool(result.image).clamp(-1, 1))
        )
    rows = pd.read_parquet(out / "latents").sort_values("source")
    expected = torch.cosine_similarity(made, targets).numpy()
    np.testing.assert_allclose(rows.id_similarity, expected, atol=1e-4)

    # A retry measures by them too, without being told.
    shutil.copy(images / "0.png", images / "x.png")
    retry_rejects(Retry(str(out), tuple(RejectReason)), engine=in_process)
    rows = pd.read_parquet(out / "latents").set_index("source")
    again = {Path(name).name: value for name, value in rows.id_similarity.items()}
    assert again["x.png"] == pytest.approx(again["0.png"], abs=1e-5)


def test_other_weights_are_another_output(
    images: Path, weights: Path, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    invert_images(request(images, out, tiny_model, weights), engine=in_process)
    other = save(recogniser("arcface"), tmp_path / "model_ir_se50.pth")
    for named in (None, other):
        with pytest.raises(SpecError, match="identity: CurricularFace"):
            invert_images(request(images, out, tiny_model, named), engine=in_process)
    # The same weights under another name are the same.
    moved = tmp_path / "moved.pth"
    weights.rename(moved)
    invert_images(request(images, out, tiny_model, moved), engine=in_process)


def test_they_are_refused_where_identity_is_not_measured(
    images: Path, weights: Path, tmp_path: Path, tiny_model: Path
) -> None:
    asked = request(images, tmp_path / "out", tiny_model, weights, metrics=("l2",))
    with pytest.raises(SpecError, match="--identity-weights are for id_similarity"):
        invert_images(asked, engine=in_process)
    weights.write_bytes(b"text")
    load_recogniser.cache_clear()
    with pytest.raises(CheckpointError, match="is text"):
        invert_images(request(images, tmp_path / "out", tiny_model, weights), engine=in_process)
    assert not (tmp_path / "out").exists()
