"""``restyle toonify`` from end to end, with the units run in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import restyle.pipeline.execution.run
from restyle.core import load_model
from restyle.core.errors import RestyleError
from restyle.core.inference.bootstrapping import invert_bootstrapped
from restyle.jobs.cli import app
from restyle.pipeline.accounting.verify import verify
from tests.pipeline import in_process
from tests.tiny_model import make_tiny_model

Run = Callable[..., str]

# Paths are to be found whole in what is printed.
WIDE = {"COLUMNS": "1000"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def engine(*_: object) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext(in_process.run_units)

    monkeypatch.setattr(restyle.pipeline.execution.run, "executor", engine)

    def command(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=WIDE)
        if isinstance(result.exception, RestyleError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return command


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("photo", "toon")):
        make_tiny_model(folder / name, align=False, seed=seed)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_photographs_become_the_other_models_pictures(
    run: Run, models: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "toons"
    command = (
        "toonify", images, "--to", out, "--photo-model", models / "photo", "--model",
        models / "toon", "--steps", 3, "--dtype", "fp32",
    )  # fmt: skip
    said = run(*command)
    assert str(out / "strip.png") in said
    assert verify(str(out)).problems == []
    latents = pq.read_table(out / "latents", use_threads=False).to_pandas().sort_values("source")
    assert latents["steps"].tolist() == [3] * 3
    photo, toon = (
        load_model(models / name, dtype="fp32", device="cpu") for name in ("photo", "toon")
    )
    inputs = [Image.open(path) for path in sorted(images.iterdir())]
    expected = invert_bootstrapped(photo, toon, inputs, 3, reconstructions="all")
    found = np.stack(latents["latent"]).reshape(3, -1, 32)
    np.testing.assert_allclose(found, expected.latents[:, -1].numpy(), atol=1e-4)
    pictures = pq.read_table(out / "reconstructions", use_threads=False).to_pandas()
    assert sorted(pictures["step"].unique()) == [0, 1, 2, 3]
    recorded = json.loads((out / "run.json").read_text())
    assert recorded["model"]["spec"] == str(models / "toon")
    assert recorded["model"]["bootstrap"] == str(models / "photo")
    strip = Image.open(out / "strip.png")
    assert strip.size == (3 * 132 - 4, 4 * 132 - 4)
    _, second = (row for row in pictures[pictures["step"] == 3]["image"].head(2))
    shown = np.asarray(strip.crop((132, 396, 260, 524)).resize((64, 64)), int)
    assert np.abs(shown - np.asarray(Image.open(io.BytesIO(second)), int)).mean() < 12
    (out / "strip.png").unlink()
    run(*command)
    assert (out / "strip.png").is_file()
    with pytest.raises(RestyleError, match="bootstrap"):
        run(*command[:4], "--photo-model", models / "toon", *command[6:])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--photo-model", "faces64"), "framing_scale is 0.8 here and 0.7 there"),
        (("--model", "TOON:single-pass-psp"), "needs an encoder that refines"),
        (("--photo-model", "nobody"), "nobody"),
    ],
)
def test_models_that_do_not_go_together_are_refused_at_once(
    run: Run, models: Path, images: Path, tmp_path: Path, changes: tuple[str, str], words: str
) -> None:
    option, value = changes[0], changes[1].replace("TOON", str(models / "toon"))
    given = {"--photo-model": str(models / "photo"), "--model": str(models / "toon")}
    arguments = [word for pair in (given | {option: value}).items() for word in pair]
    with pytest.raises(RestyleError, match=words):
        run("toonify", images, "--to", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()
