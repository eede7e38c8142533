"""What is not finite never becomes a file of a dataset; latents say who found a face."""

from __future__ import annotations

import contextlib
import math
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from restyle.core.checkpoints.directory import read_model, save_model
from restyle.core.errors import FatalError
from restyle.core.imaging.preprocessing import to_pictures
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.editing.request import EditRequest, Move
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import column, encode
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import open_storage
from tests.pipeline import in_process

SOURCES = pa.array(["/p/a.jpg", "/p/b.jpg", "/p/c.jpg"])


def latents(*wrong: tuple[int, float]) -> pa.Array:
    values = np.zeros((3, 4, 2), np.float32)
    for row, value in wrong:
        values[row, 2, 1] = value
    return column(values, (4, 2))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("latent", latents((1, math.nan), (2, math.inf)), "2 of 3 rows.*b.jpg"),
        ("latent", latents((0, -math.inf)), "1 of 3 rows.*a.jpg"),
        ("l2", pa.array([0.1, 0.2, math.nan], from_pandas=False), "1 of 3 rows.*c.jpg"),
        ("delta", pa.array([math.inf, 0.2, 0.1]), "1 of 3 rows.*a.jpg"),
        ("psnr", pa.array([math.inf, 0.2, math.nan], from_pandas=False), "1 of 3 rows.*c.jpg"),
        ("quad", column(np.full((3, 4, 2), math.nan), (4, 2)), "3 of 3 rows"),
    ],
)
def test_rows_that_are_not_finite_are_not_encoded(name: str, values: pa.Array, words: str) -> None:
    table = pa.table({"source": SOURCES, name: values})
    with pytest.raises(FatalError, match=f"^{name} is not finite in {words}"):
        encode(table)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("latent", latents()),
        ("id_similarity", pa.array([None, 0.5, None], pa.float32())),
        # Of equal images.
        ("psnr", pa.array([math.inf, 30.0, None])),
    ],
)
def test_what_was_not_computed_is_no_failure(name: str, values: pa.Array) -> None:
    assert encode(pa.table({"source": SOURCES, name: values}))


def overflowing(model: Path, part: str, target: Path) -> Path:
    """A model whose weights are all finite and whose results are not."""
    config, weights = read_model(model)
    state = weights.generator if part == "generator" else weights.encoders["restyle-psp"].state
    # Convolutions of the generator are normalised (demodulated), those to RGB are not.
    for key, tensor in state.items():
        if key.endswith("weight") and (part == "encoder" or key.startswith("to_rgb")):
            tensor.mul_(1e30)
    assert all(tensor.isfinite().all() for tensor in state.values())
    save_model(weights, target)
    assert config.name
    return target


@pytest.mark.parametrize("part", ["generator", "encoder"])
def test_a_model_that_overflows_commits_nothing_and_rejects_nothing(
    tiny_model: Path, photos: Path, tmp_path: Path, part: str
) -> None:
    """Without any metric, and with pictures alone to see it by."""
    model = overflowing(tiny_model, part, tmp_path / "overflowing")
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "smile.jpg", tmp_path / "photos")
    settings = InversionSettings(
        model=str(model), steps=2, metrics=(), dtype="fp32", save_steps="none"
    )
    request = Request(str(tmp_path / "photos"), str(tmp_path / "out"), settings, device="cpu")
    with pytest.raises(FatalError, match=r"1 of 1 images came out as values that are not finite"):
        invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    storage = open_storage(request.out)
    assert not ledger.read_entries(storage).units
    assert not list((tmp_path / "out").rglob("*.parquet"))
    with pytest.raises(FatalError, match="not finite"):
        invert(load_model(model, dtype="fp32"), [Image.new("RGB", (64, 64), "red")], 2)


def test_an_edit_that_overflows_commits_nothing(inverted: Path, tmp_path: Path) -> None:
    request = EditRequest(
        out=str(inverted / "out"), to=str(tmp_path / "edits"), score=False, device="cpu",
        moves=(Move("smile", (0.0, 1e39)),),
    )  # fmt: skip
    with pytest.raises(FatalError, match="not finite"):
        edit(request)
    assert not list((tmp_path / "edits" / "edits").glob("*"))
    assert not ledger.read_entries(open_storage(request.to)).units


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_pictures_are_not_made_of_what_is_not_finite(value: float) -> None:
    images = torch.zeros(3, 3, 8, 8)
    images[1, 2, 3, 4] = value
    with pytest.raises(FatalError, match=r"1 of 3 generated images"):
        to_pictures(images)


@pytest.mark.parametrize("detector", ["auto", "hog", "cnn"])
def test_latents_say_which_detector_found_a_face_where_it_may_differ(
    tiny_model: Path, tmp_path: Path, detector: Literal["auto", "hog", "cnn"]
) -> None:
    portrait = Image.fromarray(astronaut())
    (tmp_path / "photos").mkdir()
    portrait.save(tmp_path / "photos" / "upright.png")
    portrait.rotate(90).save(tmp_path / "photos" / "turned.png")
    settings = InversionSettings(
        model=str(tiny_model), steps=1, metrics=(), dtype="fp32", detector=detector
    )
    request = Request(str(tmp_path / "photos"), str(tmp_path / "out"), settings, device="cpu")
    invert_images(request, Listener(), lambda: contextlib.nullcontext(in_process.run_units))
    rows = [
        row
        for file in sorted((tmp_path / "out" / "latents").glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]
    found = {Path(row["source"]).stem: row.get("detector", "no column") for row in rows}
    assert (
        found
        == {
            "auto": {"upright": "hog", "turned": "cnn"},
            "hog": {"upright": "no column"},
            "cnn": {"upright": "no column", "turned": "no column"},
        }[detector]
    )
    assert verify(request.out).problems == []
