"""``restyle convert`` on a generator alone, and what the other commands do with the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from restyle import read_latents
from restyle.core.checkpoints.conversion import load_generator
from tests.restyle_core.checkpoints.nvidia import programs
from tests.warm_command import restyle


def test_a_network_pickle_is_converted_and_polished_from_its_average(tmp_path: Path) -> None:
    torch.manual_seed(4)
    program = programs.Generator((8, 8, 4), layers=2)
    path = programs.write(programs.ada_content(program), tmp_path / "network.pkl")
    refused = restyle("invert", path, "--out", tmp_path / "out", "--model", path)
    assert refused.returncode == 2
    assert "a generator without an encoder" in refused.stderr

    model = tmp_path / "model"
    made = restyle("convert", path, model)
    assert made.returncode == 0, made.stderr
    assert "network pickle of StyleGAN2-ADA (PyTorch), 16x16 pixels" in made.stdout
    assert "encoders: average" in made.stdout

    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(photos / "a.png")
    job = ("invert", photos, "--out", tmp_path / "out", "--model", model, "--metrics", "l2")
    refused = restyle(*job)
    assert refused.returncode == 2
    assert (
        "is a generator without an encoder; optimise from its average latent, by --polish N"
        in refused.stderr
    )
    assert refused.stderr.count("\n") == 1
    done = restyle(*job, "--polish", 3, "--dtype", "fp32", "--save-steps", "latents")
    assert done.returncode == 0, done.stderr
    steps = read_latents(tmp_path / "out")[0]
    assert len(steps) == 1
    average = load_generator(path)[1]
    assert average is not None
    w = read_latents(tmp_path / "out")[1]
    assert w.shape == (1, 6, 32)
    # Three steps of optimisation away from the average, not at it and not far.
    assert 0 < np.abs(w[0] - average.numpy()).max() < 10


def test_an_encoder_is_attached(tmp_path: Path) -> None:
    from tests.restyle_core.fabricate import checkpoint, save

    torch.manual_seed(4)
    program = programs.Generator((8, 8, 4), layers=2)
    generator = programs.write(programs.ada_content(program), tmp_path / "network.pkl")
    encoder = save(checkpoint("ResNetBackboneEncoder", 16), tmp_path / "encoder.pt")
    made = restyle("convert", generator, tmp_path / "model", "--encoder", encoder)
    assert made.returncode == 0, made.stderr
    assert f"{encoder}: a ResNetBackboneEncoder" in made.stdout
    assert "domain faces, photographs are aligned" in made.stdout
