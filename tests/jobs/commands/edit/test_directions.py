"""``restyle directions``: what it writes and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from restyle.core.editing.directions import About, Direction, read_direction
from restyle.core.errors import RestyleError
from restyle.core.inference.model import load_model
from restyle.jobs.cli import app
from restyle.pipeline.results.latents import read_latents
from tests.pipeline.fabricated import Made, fabricate

Run = Callable[..., str]


@pytest.fixture
def run(tiny_model: Path) -> Run:
    def command(*arguments: object) -> str:
        words = [str(tiny_model) if each == "MODEL" else str(each) for each in arguments]
        result = CliRunner().invoke(app, ["directions", *words])
        if isinstance(result.exception, RestyleError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return command


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    latents = np.random.default_rng(0).normal(size=(400, 32)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(latents.reshape(-1)), 32)
    table = pa.table({"latent": column, "warmth": latents[:, 5], "height": latents[:, 6]})
    pq.write_table(table, tmp_path / "labelled.parquet")
    return tmp_path / "labelled.parquet"


def test_a_boundary_is_fitted_and_listed(run: Run, labelled: Path, tmp_path: Path) -> None:
    to = tmp_path / "found"
    said = run("fit", labelled, "--score", "warmth", "--to", to, "--model", "MODEL")
    direction = read_direction(to / "warmth.safetensors")
    assert direction.vector[5] > 0.95
    assert direction.about.accuracy is not None
    assert f"{direction.about.accuracy:.1%} of {direction.about.held_out} held-out" in said
    listed = run("list", "--in", to).splitlines()
    assert listed[0].split() == ["name", "kind", "layers", "reliable", "held-out", "origin"]
    assert listed[1].split()[:4] == ["warmth", "interfacegan", "all", "-"]
    direction.described(name="ranged", reliable=(-3, 2.5)).save(to)
    assert run("list", "--in", to).splitlines()[1].split()[:4] == [
        "ranged", "interfacegan", "all", "-3..2.5"
    ]  # fmt: skip
    assert "latents of tiny in labelled.parquet, column warmth" in listed[1]
    run(
        "fit", labelled, "--score", "height", "--to", to, "--model", "MODEL",
        "--without", to / "warmth.safetensors", "--name", "tall", "--layers", "0-3",
    )  # fmt: skip
    tall = read_direction(to / "tall.safetensors")
    assert tall.about.layers == (0, 1, 2, 3)
    assert abs(tall.vector @ direction.vector) < 1e-6


def test_a_direction_of_all_styles_is_taken_out_of_w(
    run: Run, labelled: Path, tmp_path: Path
) -> None:
    rows = np.random.default_rng(1).normal(size=(10, 32))
    rows[:, 6] += 5
    other = Direction.of(rows, About(name="other", kind="trained", scale=1)).save(tmp_path)
    run("fit", labelled, "--score", "height", "--to", tmp_path, "--model", "MODEL",
        "--without", other)  # fmt: skip
    found = read_direction(tmp_path / "height.safetensors")
    assert found.vector.shape == (32,)
    # Moving all styles along it does not move them along the other.
    assert abs((np.tile(found.vector, (10, 1)) * rows).sum()) < 1e-4


def test_components_and_eigenvectors(run: Run, tmp_path: Path) -> None:
    for method in ("ganspace", "sefa"):
        said = run("fit", "--method", method, "--count", 3, "--to", tmp_path, "--model", "MODEL")
        assert said.split() == [str(tmp_path / f"{method}-{n}.safetensors") for n in range(3)]
    assert len(run("list", "--in", tmp_path).splitlines()) == 7


def test_one_component_is_imported_under_a_name(run: Run, tmp_path: Path) -> None:
    torch.save({"comp": torch.eye(32)[:12, None], "std": torch.ones(12)}, tmp_path / "pca.pt")
    run("import", tmp_path / "pca.pt", "--to", tmp_path / "all")
    names = [line.split()[0] for line in run("list", "--in", tmp_path / "all").splitlines()[1:]]
    assert names == [f"pca-{number}" for number in range(12)]
    run(
        "import", tmp_path / "pca.pt", "--component", 7, "--layers", "2-3", "--name", "light",
        "--to", tmp_path / "one",
    )  # fmt: skip
    direction = read_direction(tmp_path / "one" / "light.safetensors")
    assert direction.vector[7] == 1
    assert direction.about.layers == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--to", "x"], "interfacegan needs LATENTS and --score"),
        (["fit", "--method", "sefa", "--score", "a", "--to", "x"], "are for interfacegan"),
        (["fit", "a", "--method", "sefa", "--to", "x"], "leave LATENTS out"),
        (["fit", "a", "--score", "../a", "--to", "x"], "cannot name a direction"),
        (["fit", "/no/such", "--score", "a", "--to", "x"], "/no/such does not exist"),
        (["fit", "a", "--score", "a", "--to", "x", "--outer", "0.7"], "outer is 0.7"),
        (["fit", "--method", "sefa", "--layers", "x", "--to", "x"], "layers 'x'"),
        (["import", "/no/such.pt", "--to", "x"], "/no/such.pt"),
        (["import", "FILE", "--component", "12", "--to", "x"], "directions 0-1, no 12"),
        (["import", "FILE", "--name", "light", "--to", "x"], "choose a --component"),
        (["import", "FILE", "--component", "0", "--name", "/a", "--to", "x"], "name '/a'"),
        (["list", "--in", "/no/such"], "/no/such is no folder"),
        (["list", "--model", "nobody"], "nobody"),
    ],
)
def test_what_is_wrong_is_said(run: Run, tmp_path: Path, arguments: list[str], words: str) -> None:
    torch.save({"a": torch.ones(32), "b": torch.ones(32)}, tmp_path / "two.pt")
    with pytest.raises(RestyleError, match=words):
        run(*(tmp_path / "two.pt" if each == "FILE" else each for each in arguments))
    assert not Path("x").exists()


def test_what_a_file_says_does_not_reach_the_terminal_raw(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "a\x1b[2Jb.npy", np.ones(32))
    run("import", tmp_path / "a\x1b[2Jb.npy", "--to", tmp_path)
    assert "\x1b" not in run("list", "--in", tmp_path)


def test_labels_of_an_output_s_faces(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    """The latents' shape follows from the model, also where a program wrote them flat."""
    model = load_model(tiny_model, device="cpu")
    shape = (model.n_styles, model.style_dim)
    fabricate(tmp_path / "out", Made(faces=130, shape=shape, reconstructions="none"))
    rows, latents = read_latents(tmp_path / "out")
    rows["warmth"] = latents[:, 0, 5]
    rows[["source", "warmth"]].to_csv(tmp_path / "labels.csv", index=False)
    fit = ("--score", "warmth", "--model", "MODEL")
    said = run("fit", tmp_path / "out", "--labels", tmp_path / "labels.csv", *fit,
               "--out", tmp_path / "a")  # fmt: skip
    assert said.startswith("130 latents of 130 with a score 'warmth'\n")
    flat = pa.array(latents.reshape(len(latents), -1).tolist())
    pq.write_table(pa.table({"latent": flat, "warmth": rows.warmth}), tmp_path / "flat.parquet")
    run("fit", tmp_path / "flat.parquet", *fit, "--out", tmp_path / "b")
    one, other = (read_direction(tmp_path / each / "warmth.safetensors") for each in "ab")
    np.testing.assert_allclose(one.vector, other.vector, atol=1e-5)
    assert one.vector.shape == shape
    assert one.vector[0, 5] > 0.5
    rows.iloc[:99][["source", "warmth"]].to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(RestyleError, match="99 latents with a score; at least 100 are needed"):
        run("fit", tmp_path / "out", "--labels", tmp_path / "few.csv", *fit, "--out", tmp_path)
