"""Images that crash native code, never end, or take all memory: one reject row each, no more."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from restyle.core.errors import RejectReason
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.decoding.sandbox import CropSettings
from restyle.pipeline.inversion.aligner import Aligner
from restyle.pipeline.ledger.manifest import Unit
from restyle.pipeline.sources.source_image import SourceImage, image_id
from tests.command import restyle
from tests.hostile import CRASHES, endless_jpeg, poison, swelling_png
from tests.tiny_model import make_tiny_model

SECONDS = 8
MEMORY = 384 * 2**20

WHOLE = CropSettings(
    align=False, faces="largest", size=(64, 64), time_limit=SECONDS, memory_limit=MEMORY
)

HOSTILE = {
    "crash.jpg": (CRASHES, RejectReason.CRASHED),
    "endless.jpg": (endless_jpeg(), RejectReason.TIMED_OUT),
    "swelling.png": (swelling_png(), RejectReason.TOO_LARGE),
}


def photograph(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures with a hostile one after every tenth."""
    made = tmp_path / "images"
    made.mkdir()
    for number in range(40):
        (made / f"{number:02d}.png").write_bytes(photograph(number))
    for number, (name, (data, _)) in enumerate(HOSTILE.items()):
        (made / f"{number}9-{name}").write_bytes(data)
    return made


def test_each_costs_itself_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In groups of several images, two of them at the same time."""
    monkeypatch.setenv("PYTHONPATH", poison(tmp_path))
    files = sorted(folder.iterdir())
    uris = [b"file://" + os.fsencode(file) for file in files]
    images = [
        SourceImage(image_id(uri), file.name, uri, file.stat().st_size, "")
        for uri, file in zip(uris, files, strict=True)
    ]
    aligner = Aligner(str(folder), WHOLE, 2)
    aligned = aligner(Unit("u", tuple(images)))
    aligner.close()
    rejects = {reject.source[3:]: reject for reject in aligned.rejects}
    assert {name: reject.reason for name, reject in rejects.items()} == {
        name: reason for name, (_, reason) in HOSTILE.items()
    }
    assert all(reject.stage == "align" for reject in aligned.rejects)
    assert "SIGSEGV" in rejects["crash.jpg"].message
    assert f"{SECONDS} s" in rejects["endless.jpg"].message
    assert "memory" in rejects["swelling.png"].message
    assert [crop.source for crop in aligned.crops] == [f"{number:02d}.png" for number in range(40)]
    for number, crop in enumerate(aligned.crops):
        whole = Image.open(io.BytesIO(photograph(number)))
        expected = np.asarray(whole.resize((64, 64), Image.Resampling.BILINEAR))
        assert np.array_equal(crop.pixels, expected)


def test_what_swells_is_an_image_like_any_other_where_memory_suffices() -> None:
    """So the limit is what rejected it; smaller here, because a test need not take 2 GB."""
    from restyle.pipeline.decoding.crops import read_crops

    (crop,) = read_crops(swelling_png(1000), WHOLE)
    # Red at an opacity of 128 / 255 over white.
    assert np.abs(crop.pixels.astype(int) - [255, 127, 127]).max() <= 1


def test_a_job_that_meets_them_ends_well(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = make_tiny_model(tmp_path / "tiny", align=False)
    options = "--metrics none --reconstructions none --dtype fp32 --device cpu --steps 1"
    ended = restyle(
        *("invert", folder, "--out", out, "--model", model, "--executor", "ray", *options.split()),
        env={"PYTHONPATH": poison(tmp_path, seconds=SECONDS, memory=MEMORY)},
    )
    assert ended.returncode == 0, ended.stderr
    rejects = pd.read_parquet(out / "rejects")
    assert dict(zip(rejects.source.str.split("9-").str[-1], rejects.reason, strict=True)) == {
        name: str(reason) for name, (_, reason) in HOSTILE.items()
    }
    latents = pd.read_parquet(out / "latents")
    assert sorted(Path(source).name for source in latents.source) == [
        f"{number:02d}.png" for number in range(40)
    ]
    assert verify(str(out)).problems == []
