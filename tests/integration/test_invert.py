"""``restyle invert`` from photographs to Parquet, through Ray, as a user runs it."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from restyle.core.faces.alignment import Framing, align_faces
from restyle.core.imaging.decoding import decode_image
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from tests.command import heavy_imports, restyle

STEPS = 3

# What ships to be rejected, and what must be made because it must not ship.
UNUSABLE = {
    "empty.jpg": (b"", "empty"),
    "notes.jpg": (b"not an image\n", "not_an_image"),
    "tiny.png": (None, "too_small"),
    "bomb.png": (None, "too_large"),
    "cut.jpg": (None, "truncated"),
    "wall.png": (None, "no_face"),
}


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    image.save(target, kind)
    return target.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Photographs with one and several faces, two of one name, and what cannot be used."""
    root = tmp_path_factory.mktemp("invert") / "input"
    (root / "deep").mkdir(parents=True)
    shutil.copy(photos / "smile.jpg", root / "face.jpg")
    shutil.copy(photos / "evening.jpg", root / "deep" / "face.jpg")
    shutil.copy(photos / "two friends.jpg", root)
    made = {
        "tiny.png": encoded(Image.new("RGB", (8, 8))),
        "bomb.png": encoded(Image.new("1", (12_000, 12_000))),
        "cut.jpg": (photos / "garden.jpg").read_bytes()[:2000],
        "wall.png": encoded(Image.new("RGB", (300, 300), "grey")),
    }
    for name, (data, _) in UNUSABLE.items():
        (root / name).write_bytes(made[name] if data is None else data)
    return root


@pytest.fixture(scope="module")
def finished(folder: Path, tiny_model: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = folder.parent / "out"
    result = restyle(*command(folder, out, tiny_model))
    assert result.returncode == 0, result.stderr
    return out, result


def command(folder: Path, out: Path, model: Path) -> list[object]:
    options = "--faces all --save-steps latents --reconstructions all --dtype fp32 --device cpu"
    return [
        "invert",
        folder,
        "--out",
        out,
        "--model",
        model,
        "--executor",
        "ray",
        "--steps",
        STEPS,
        *options.split(),
    ]


def test_the_terminal_says_what_happened(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, result = finished
    lines = {tuple(line.split()) for line in result.stdout.splitlines()}
    for reason in Counter(reason for _, reason in UNUSABLE.values()):
        assert (reason, "1") in lines
    assert ("rejects", str(len(UNUSABLE))) in lines
    assert str(out / "report.html") in result.stdout
    assert "fp32: asked for" in result.stderr
    # One line about the model and, on a slow machine, a few about progress.
    unexpected = [
        line
        for line in result.stderr.splitlines()[1:]
        if "images/s" not in line and not line.startswith("next: ")
    ]
    assert not unexpected, result.stderr


def test_rows_equal_the_method_run_directly(
    finished: tuple[Path, subprocess.CompletedProcess[str]], folder: Path, tiny_model: Path
) -> None:
    out, _ = finished
    model = load_model(tiny_model, dtype="fp32", device="cpu")
    framing = Framing(model.config.framing_scale, model.config.framing_shift)
    latents = pd.read_parquet(out / "latents").set_index(["source", "face"])
    steps = pd.read_parquet(out / "steps").set_index(["source", "face", "step"])
    images = pd.read_parquet(out / "reconstructions").set_index(["source", "face", "step"])
    count = 0
    for path in [folder / "face.jpg", folder / "deep/face.jpg", folder / "two friends.jpg"]:
        faces = align_faces(decode_image(path.read_bytes()), 256, "all", framing)
        pixels = np.stack([np.asarray(face.image) for face in faces])
        metrics = ("l2", "ms_ssim", "lpips", "id_similarity")
        direct = invert(model, pixels, STEPS, reconstructions="all", metrics=metrics)
        assert direct.reconstructions is not None
        for number, face in enumerate(faces):
            row = latents.loc[(str(path), number)]
            assert np.array_equal(row.quad.reshape(4, 2), face.quad)
            expected = direct.latents[number].numpy()
            np.testing.assert_allclose(
                row.latent.reshape(expected.shape[1:]), expected[-1], atol=1e-4
            )
            for step in range(1, STEPS + 1):
                of_step = steps.loc[(str(path), number, step)]
                np.testing.assert_allclose(
                    of_step.latent.reshape(expected.shape[1:]), expected[step - 1], atol=1e-4
                )
                for name in metrics:
                    value = direct.metrics[name][number, step - 1].item()
                    assert of_step[name] == pytest.approx(value, rel=1e-3, abs=1e-5)
                png = Image.open(io.BytesIO(images.loc[(str(path), number, step)].image))
                ours = direct.reconstructions[number, step - 1].permute(1, 2, 0).numpy()
                wanted = np.clip((ours + 1) * 127.5, 0, 255)
                assert np.abs(np.asarray(png) - wanted).max() < 1.0
            count += 1
    assert len(latents) == count >= 4


def test_every_unusable_input_is_one_reject(
    finished: tuple[Path, subprocess.CompletedProcess[str]], folder: Path
) -> None:
    rejects = pd.read_parquet(finished[0] / "rejects")
    found = {Path(row.source).name: row.reason for row in rejects.itertuples()}
    assert found == {name: reason for name, (_, reason) in UNUSABLE.items()}
    assert len(rejects) == len(UNUSABLE)


def test_verify_and_status(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = finished
    proof = restyle("verify", out)
    assert (proof.returncode, proof.stdout.splitlines()[-1]) == (0, "clean"), proof.stdout
    status = restyle("status", out)
    assert status.returncode == 0
    assert "complete" in status.stdout
    assert "9 of 9 accounted for" in status.stdout


def test_the_same_command_again_does_nothing_without_ray_or_torch(
    finished: tuple[Path, subprocess.CompletedProcess[str]], folder: Path, tiny_model: Path
) -> None:
    again, imported = heavy_imports(*command(folder, finished[0], tiny_model))
    assert again.returncode == 0
    assert not imported & {"ray", "torch", "dlib"}
    assert "nothing to do" in again.stderr


def test_other_settings_are_refused_in_one_line(
    finished: tuple[Path, subprocess.CompletedProcess[str]], folder: Path, tiny_model: Path
) -> None:
    refused = restyle(*command(folder, finished[0], tiny_model), "--steps", 4)
    assert refused.returncode == 2
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert "steps: 3 -> 4" in line
