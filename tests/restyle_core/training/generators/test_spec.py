from pathlib import Path

import pytest

from restyle.core.errors import SpecError
from restyle.core.training.generators.spec import GeneratorSpec
from restyle.core.training.spec import load_spec

BASE = """
name = "toy"
crops = ["photos"]
{line}
[schedule]
images = 100
"""
SHAPE = "[generator]\nwidths = [8, 8, 8, 8]\n"


def written(folder: Path, line: str = "", more: str = SHAPE) -> Path:
    (folder / "photos").mkdir(exist_ok=True)
    path = folder / "spec.toml"
    path.write_text(BASE.format(line=line) + more)
    return path


@pytest.mark.parametrize(
    ("line", "more", "message"),
    [
        ("", "", "either a parent to start from or the shape"),
        ('parent = "faces64"', SHAPE, "either a parent to start from or the shape"),
        ("keep_mapping = true", SHAPE, "keep_mapping needs a parent"),
        ('parent = "elsewhere"', "", "elsewhere, which does not exist"),
        ("", SHAPE + "[gan]\nr1 = -1\n", "gan.r1"),
        ("", SHAPE + "[gan]\n[adversarial]\nweight = 1.0\n", "goes without"),
        ("", SHAPE + "[gan]\nr2 = 1\n", "gan.r2"),
    ],
)
def test_a_bad_specification_is_refused_in_one_line(
    tmp_path: Path, line: str, more: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(written(tmp_path, line, more), GeneratorSpec)
    assert "\n" not in str(caught.value)


def test_an_embedded_parent_keeps_its_name_and_a_path_is_anchored(tmp_path: Path) -> None:
    named = load_spec(written(tmp_path, 'parent = "faces64"', ""), GeneratorSpec)
    assert named.parent == "faces64"
    (tmp_path / "run").mkdir()
    path = load_spec(written(tmp_path, 'parent = "run"', ""), GeneratorSpec)
    assert path.parent == str(tmp_path / "run")
