"""The file format of reconstructions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from restyle.core.errors import RejectReason, SpecError
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.retry import Retry, retry_rejects
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from tests.faults.running_job import make_images
from tests.pipeline.in_process import in_process


def inverted(out: Path, photos: Path, model: Path, image_format: str) -> pd.DataFrame:
    settings = InversionSettings(
        model=str(model),
        align=False,
        steps=2,
        reconstructions="all",
        metrics=(),
        dtype="fp32",
        image_format=image_format,  # type: ignore[arg-type]
    )
    invert_images(Request(str(photos), str(out), settings, device="cpu"), engine=in_process)
    rows = pd.read_parquet(out / "reconstructions")
    return rows.sort_values(["image_id", "step"], ignore_index=True)


def pixels(data: bytes, kind: str) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(("kind", "most"), [("jpeg", 3.0), ("webp", 5.0)])
def test_reconstructions_have_the_format_that_was_asked_for(
    kind: str, most: float, tmp_path: Path, tiny_model: Path
) -> None:
    make_images(tmp_path / "images", 3)
    exact = inverted(tmp_path / "png", tmp_path / "images", tiny_model, "png")
    lossy = inverted(tmp_path / kind, tmp_path / "images", tiny_model, kind)
    assert set(exact.format) == {"png"}
    inputs = lossy.step == 0
    assert set(lossy.format[inputs]) == {"png"}
    assert list(lossy.image[inputs]) == list(exact.image[inputs])
    assert set(lossy.format[~inputs]) == {kind}
    for row in lossy[~inputs].itertuples():
        difference = np.abs(pixels(row.image, kind) - pixels(exact.image[row.Index], "png"))
        assert 0 < difference.mean() < most


def test_an_output_has_one_format(tmp_path: Path, tiny_model: Path) -> None:
    make_images(tmp_path / "images", 2)
    inverted(tmp_path / "out", tmp_path / "images", tiny_model, "jpeg")
    with pytest.raises(SpecError, match="image_format: jpeg -> None"):
        inverted(tmp_path / "out", tmp_path / "images", tiny_model, "png")


def test_rejects_are_run_again_in_the_format_of_the_output(
    tmp_path: Path, tiny_model: Path
) -> None:
    make_images(tmp_path / "images", 1)
    broken = tmp_path / "images" / "broken.png"
    broken.write_bytes(b"nothing")
    inverted(tmp_path / "out", tmp_path / "images", tiny_model, "webp")
    broken.write_bytes((tmp_path / "images" / "00000.png").read_bytes())
    retry = Retry(str(tmp_path / "out"), frozenset(RejectReason), device="cpu")
    retry_rejects(retry, engine=in_process)
    rows = pd.read_parquet(tmp_path / "out" / "reconstructions")
    assert sorted(rows.format) == ["png"] * 2 + ["webp"] * 4
