"""The whole pipeline with its actors on the device."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command import restyle


@pytest.mark.parametrize("actors", ["1:1", "2:2"])
def test_a_run_on_the_gpu_is_complete(tmp_path: Path, actors: str) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for index in range(48):
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(tmp_path / "in" / f"{index:02d}.png")
    share = "1" if actors == "1:1" else "0.5"
    done = restyle(
        "invert", tmp_path / "in", "--out", tmp_path / "out", "--no-align", "--device", "cuda",
        "--invert-actors", actors, "--gpus-per-actor", share, "--metrics", "l2,lpips",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert restyle("verify", tmp_path / "out").returncode == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    workers = json.dumps(record["workers"])
    assert "native" in workers
    assert "cuda" in workers.lower() or "NVIDIA" in workers
