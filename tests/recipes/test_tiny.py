"""A new domain from a folder of images: the tiny presets, shortened, through the command."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restyle.core import invert, load_model
from restyle.core.training.generators.distillation import load_trained_generator
from restyle.jobs.commands.train.train import app
from tests.command import ROOT, restyle

PRESETS = ROOT / "recipes" / "tiny"
SHORT = {"images": 64, "checkpoint_every": 64, "sample_every": 64, "log_every": 16}


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` and both presets, made short and otherwise the same."""
    folder = tmp_path_factory.mktemp("domain")
    (folder / "photos").mkdir()
    random = np.random.default_rng(0)
    for index in range(12):
        pixels = random.integers(0, 255, (40, 52, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.jpg")
    for name in ("generator.toml", "encoder.toml"):
        lines = (PRESETS / name).read_text().splitlines()
        for index, line in enumerate(lines):
            key = line.partition(" = ")[0]
            lines[index] = f"{key} = {SHORT[key]}" if key in SHORT else line
        (folder / name).write_text("\n".join(lines))
        assert tomllib.loads((folder / name).read_text())["schedule"].items() >= SHORT.items()
    return folder


def train(kind: str, folder: Path) -> str:
    words = [kind, str(folder / f"{kind}.toml"), "--out", str(folder / "runs" / kind)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_one_command_each_for_generator_and_encoder(domain: Path) -> None:
    said = train("generator", domain)
    assert said.count("images_per_second") == 4
    assert (domain / "runs" / "generator" / "samples" / "00000064.png").is_file()
    generator, latent_avg = load_trained_generator(domain / "runs" / "generator")
    with torch.inference_mode():
        assert generator.synthesis(latent_avg[None]).shape == (1, 3, 32, 32)
    train("encoder", domain)
    state = torch.load(domain / "runs" / "encoder" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 8
    model = domain / "flowers"
    words = ["export", str(domain / "runs" / "encoder"), "--to", str(model)]
    exported = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "flowers with encoder restyle-psp" in exported.output
    photo = Image.open(domain / "photos" / "0.jpg")
    result = invert(load_model(model), [photo], steps=2, reconstructions="last")
    assert result.latents.shape == (1, 2, 8, 512)
    # A second time there is nothing to do, and nothing is done.
    assert "images_per_second" not in train("generator", domain)


def test_what_is_no_run_is_not_exported(tmp_path: Path) -> None:
    refused = restyle("train", "export", tmp_path, "--to", tmp_path / "model")
    assert refused.returncode == 2
    assert "is no folder of an encoder's training run" in refused.stderr
    assert not (tmp_path / "model").exists()


def test_a_bad_specification_stops_the_command_before_it_starts(tmp_path: Path) -> None:
    spec = tmp_path / "generator.toml"
    spec.write_text((PRESETS / "generator.toml").read_text())
    missing = restyle("train", "generator", spec, "--out", tmp_path / "run")
    assert missing.returncode == 2
    assert "photos, which does not exist" in missing.stderr
    assert missing.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
