"""``restyle interpolate``, ``mix``, ``animate`` and ``coarse-to-fine`` as commands."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from restyle.core.errors import RestyleError
from restyle.jobs.cli import app
from tests.inverted import NAMES


def run(*arguments: object) -> str:
    words = [str(each) for each in arguments]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "1000"})
    if isinstance(result.exception, RestyleError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def picture(path: Path) -> Any:
    # From memory, so that no file stays open.
    return Image.open(io.BytesIO(path.read_bytes()))


def test_every_command_writes_what_its_file_is_called(inverted: Path, tmp_path: Path) -> None:
    out, common = inverted / "out", ("--device", "cpu")
    line, mixed, moving, still = (
        tmp_path / f"a.{kind}" for kind in ("png", "parquet", "gif", "webp")
    )
    run("interpolate", out, NAMES[0], NAMES[1], "--frames", 5, "--to", line, *common)
    assert picture(line).size == (5 * 132 - 4, 128)
    run("mix", out, "--content", NAMES[0], "--style", NAMES[1], "--layers", "5-9", "--to", mixed)
    assert mixed.stat().st_size > 1000
    grid = tmp_path / "grid.png"
    run("mix", out, "--content", NAMES[0], "--style", NAMES[1], "--style", NAMES[2], "--layers", 0,
        "--to", grid)  # fmt: skip
    assert picture(grid).size == (3 * 132 - 4, 2 * 132 - 4)
    run("animate", out, NAMES[0], "--to", moving, *common)
    assert picture(moving).n_frames == 4
    run("animate", out, NAMES[0], "--direction", "smile", "--strength", "0..2/3", "--to", still)
    assert picture(still).n_frames == 4
    film = tmp_path / "a.mp4"
    run("animate", out, NAMES[0], "--to", film, *common)
    assert film.read_bytes()[4:8] == b"ftyp"


def test_the_table_and_the_plot(inverted: Path, tmp_path: Path) -> None:
    said = run("coarse-to-fine", inverted / "out", "--plot", tmp_path / "plot.svg")
    assert said.startswith("3 faces: ")
    rows = [line.split() for line in said.splitlines()[2:5]]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert float(rows[0][2].rstrip("%")) > float(rows[2][2].rstrip("%"))
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("interpolate", "OUT", "a", "b", "--to", "x.txt"), "ends in"),
        (("interpolate", "OUT", "a", "b", "--to", "x.png"), "no face 'a'"),
        (("mix", "OUT", "--content=a", "--style=b", "--layers", "z", "--to", "x.png"), "layers"),
        (("animate", "OUT", "a", "--to", "x.avi"), "ends in .webp, .gif, .mp4"),
        (("animate", "OUT", "a", "--to", "x.gif", "--strength", "z"), "strength"),
        (("animate", "OUT", "a", "--to", "x.gif", "--model", "faces64"), "leave --model out"),
        (("coarse-to-fine", "OUT", "--plot", "x.png"), "ends in .svg"),
        (("coarse-to-fine", "/no/such"), "/no/such holds no output"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(inverted: Path, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(RestyleError, match=words):
        run(*(inverted / "out" if each == "OUT" else each for each in arguments))
