"""What another package registers is found in everything that this project writes and shows."""

from __future__ import annotations

import html
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image

from tests.command import restyle
from tests.other_package import install

TOY_METRIC = """
import sys

from restyle.core.metrics.registry import Metric, pairwise

assert "--help" not in sys.argv, "names are known without it"


def gap(images, target):
    return (images.mean(dim=(1, 2, 3)) - target.mean(dim=(1, 2, 3))).abs()


METRIC = Metric(
    name="brightness_gap",
    title="brightness gap",
    unit="difference of mean pixels",
    definition="absolute difference of the mean pixels on [-1, 1]",
    better="lower",
    bounds=(0, 2),
    load=pairwise(gap),
)
"""
ASKED = "l2,brightness_gap"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a command beside which the toy package is installed."""
    folder = tmp_path_factory.mktemp("site")
    entries = {"restyle.metrics": {"brightness_gap": "toy_restyle:METRIC"}}
    return {"PYTHONPATH": str(install(folder, "toy_restyle", TOY_METRIC, entries))}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for index in range(3):
        pixels = random.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    pictures: Path,
    site: dict[str, str],
) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    result = invert(pictures, out, tiny_model, site)
    assert result.returncode == 0, result.stderr
    assert "brightness_gap" in result.stdout
    return out


def invert(
    pictures: Path, out: Path, model: Path, env: dict[str, str], metrics: str = ASKED
) -> Any:
    return restyle(
        *("invert", pictures, "--out", out, "--model", model, "--no-align", "--device", "cpu"),
        *("--dtype", "fp32", "--steps", 2, "--metrics", ASKED, "--reconstructions", "all"),
        *("--executor", "local"),
        env=env,
    )


def images_of(out: Path) -> dict[tuple[str, int], np.ndarray]:
    rows = ds.dataset(out / "reconstructions").to_table().to_pylist()
    return {
        (row["image_id"], row["step"]): np.asarray(
            Image.open(io.BytesIO(row["image"])), dtype=np.float64
        )
        / 127.5
        - 1
        for row in rows
    }


def test_the_metric_is_in_the_datasets_and_right(made: Path) -> None:
    pictures = images_of(made)
    for dataset in ("latents", "steps"):
        table = ds.dataset(made / dataset).to_table()
        field = table.schema.field("brightness_gap")
        assert field.metadata[b"definition"].startswith(b"absolute difference of the mean")
        names = table.schema.names
        assert names.index("brightness_gap") == names.index("id_similarity") + 1
        assert table.num_rows == (3 if dataset == "latents" else 6)
        for row in table.to_pylist():
            target, last = pictures[row["image_id"], 0], row.get("step", 2)
            expected = abs(pictures[row["image_id"], last].mean() - target.mean())
            assert row["brightness_gap"] == pytest.approx(expected, abs=0.01)
            assert row["brightness_gap"] > 0.02


def test_the_metric_is_in_the_record_and_the_sums(made: Path) -> None:
    run = json.loads((made / "run.json").read_text(encoding="utf-8"))
    assert run["metrics"] == ["l2", "brightness_gap"]
    rows = ds.dataset(made / "steps").to_table().to_pylist()
    for step in (1, 2):
        values = [row["brightness_gap"] for row in rows if row["step"] == step]
        assert run["means"]["brightness_gap"][step - 1] == pytest.approx(np.mean(values), rel=1e-5)


def test_the_metric_is_in_the_report(made: Path) -> None:
    page = html.unescape((made / "report.html").read_text(encoding="utf-8"))
    for words in ("Brightness gap", "difference of mean pixels", "<dt>brightness gap</dt>"):
        assert words in page


def test_the_metric_is_on_the_page(made: Path, site: dict[str, str], tmp_path: Path) -> None:
    result = restyle("view", made, "--export", tmp_path / "page", env=site)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert '"title": "brightness gap"' in text
    script = (tmp_path / "page" / "data.js").read_text(encoding="ascii")
    (run,) = json.loads(script.removeprefix("const EXPORTED = ").rstrip().rstrip(";"))
    rows = {row["image_id"]: row for row in ds.dataset(made / "latents").to_table().to_pylist()}
    assert len(run["faces"]) == len(rows) == 3
    for face in run["faces"]:
        value = rows[face["image_id"]]["brightness_gap"]
        assert face["metrics"]["brightness_gap"] == pytest.approx(value)
        assert face["steps"][-1]["brightness_gap"] == pytest.approx(value)


def test_the_metric_is_in_the_help_and_imports_nothing_heavy(site: dict[str, str]) -> None:
    result = restyle("invert", "--help", env=site)
    assert result.returncode == 0
    assert "brightness_gap" in result.stdout
    checked = restyle("spec", "check", "examples/job.toml", env=site)
    assert checked.returncode == 0, checked.stderr


def test_an_output_outlives_the_package(
    made: Path, pictures: Path, tiny_model: Path, site: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    for command in (["verify"], ["status"], ["compact"], ["verify"]):
        result = restyle(*command, out)
        assert result.returncode == 0, result.stderr
    asked = restyle("query", out, "select count(brightness_gap) n from latents", "--format", "csv")
    assert (asked.returncode, "3" in asked.stdout) == (0, True), asked.stderr
    shown = restyle("view", out, "--export", tmp_path / "page")
    assert shown.returncode == 0, shown.stderr
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert '"title": "brightness_gap"' in text
    refused = invert(pictures, out, tiny_model, {})
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "there is no metric 'brightness_gap'" in line
    again = invert(pictures, out, tiny_model, site)
    assert again.returncode == 0, again.stderr
    assert restyle("verify", out, env=site).returncode == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module\n", "ModuleNotFoundError"),
        (TOY_METRIC.replace('"brightness_gap"', '"step"'), "cannot be the name of a metric"),
        (TOY_METRIC.replace("pairwise(gap)", "lambda setting: 1 / 0"), "cannot be loaded: Zero"),
        (TOY_METRIC.replace(".abs()", ".abs().sum()"), "instead of a tensor [3]"),
    ],
)
def test_a_metric_that_fails_is_named_in_one_line(
    tmp_path: Path, pictures: Path, tiny_model: Path, source: str, words: str
) -> None:
    entries = {"restyle.metrics": {"brightness_gap": "toy_restyle:METRIC"}}
    env = {"PYTHONPATH": str(install(tmp_path / "site", "toy_restyle", source, entries))}
    assert restyle("invert", "--help", env=env).returncode == 0
    result = invert(pictures, tmp_path / "out", tiny_model, env)
    assert result.returncode == 2
    (line,) = [each for each in result.stderr.splitlines() if each.startswith("error: ")]
    assert "brightness_gap" in line
    assert words in line
