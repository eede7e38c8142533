from pathlib import Path

import numpy as np
import pytest

from restyle.core.errors import SpecError
from restyle.core.training.encoders.spec import EncoderSpec
from restyle.core.training.generators.spec import GeneratorSpec
from restyle.core.training.spec import load_spec

GENERATOR = """
name = "toy"
crops = ["crops.npz"]
[schedule]
images = 64
[generator]
widths = [16, 16, 16, 16]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "crops.npz", images=np.zeros((1, 32, 32, 3), np.uint8))
    return tmp_path


def test_paths_start_at_the_specification(folder: Path) -> None:
    (folder / "spec.toml").write_text(GENERATOR)
    assert load_spec(folder / "spec.toml", GeneratorSpec).crops == (folder / "crops.npz",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("images = 64", "images = 0", "schedule.images: Input should be greater than 0"),
        ("images = 64", "images = 64\nimagse = 3", "schedule.imagse is not known"),
        ('"crops.npz"', '"missing.npz"', "missing.npz, which does not exist"),
        ("[generator]", "[[generator", "spec.toml is no TOML"),
    ],
)
def test_every_fault_is_named(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "spec.toml").write_text(GENERATOR.replace(old, new))
    with pytest.raises(SpecError) as caught:
        load_spec(folder / "spec.toml", GeneratorSpec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_least_steps_than_most_are_refused(folder: Path) -> None:
    (folder / "spec.toml").write_text(
        'name = "toy"\ngenerator = "."\ncrops = ["crops.npz"]\nsteps = 3\nmin_steps = 4\n'
        "[schedule]\nimages = 64\n"
    )
    with pytest.raises(SpecError, match="min_steps is 4, more than the 3 of steps"):
        load_spec(folder / "spec.toml", EncoderSpec)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.toml cannot be read"):
        load_spec(tmp_path / "nowhere.toml", EncoderSpec)


@pytest.mark.parametrize("name", ["generator", "restyle-psp", "single-pass-psp"])
def test_the_shipped_recipes_are_valid(name: str, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[3] / "recipes" / "faces64" / f"{name}.toml"
    (tmp_path / "data").mkdir()
    (tmp_path / "runs" / "generator").mkdir(parents=True)
    for part in ("part0.npz", "part1.npz"):
        (tmp_path / "data" / part).touch()
    (tmp_path / "spec.toml").write_text(recipe.read_text())
    load_spec(tmp_path / "spec.toml", GeneratorSpec if name == "generator" else EncoderSpec)
