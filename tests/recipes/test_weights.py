"""The shipped weights of the recognition network are those of dlib's file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from recipes.weights.import_dlib import NAME, read_dlib
from restyle.core.errors import CheckpointError
from restyle.core.faces.alignment import model_files
from restyle.core.faces.recognition import WEIGHTS, load_face_embedder
from tests.command import ROOT


def test_what_ships_is_what_dlibs_file_holds() -> None:
    shipped, read = load_face_embedder().state_dict(), read_dlib(model_files() / NAME).state_dict()
    assert list(shipped) == list(read)
    assert all(torch.equal(shipped[name], read[name]) for name in shipped)
    with safe_open(WEIGHTS, "pt") as file:
        assert file.metadata()["licence"] == "CC0-1.0"


def test_the_recipe_makes_the_file_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.weights.import_dlib", "--out", str(tmp_path / "made")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    made, shipped = load_file(tmp_path / "made"), load_file(WEIGHTS)
    assert made.keys() == shipped.keys()
    assert all(torch.equal(made[name], shipped[name]) for name in made)
    (tmp_path / "other.dat").write_bytes((model_files() / NAME).read_bytes() + b"x")
    done = subprocess.run(
        [*command, str(tmp_path / "other.dat")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "expected" in done.stderr


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = (model_files() / NAME).read_bytes()
    damaged = {
        "short.dat": whole[: len(whole) // 2],
        "junk.dat": b"x" * 5000,
        "long.dat": whole + whole[-100_000:],
        "other.dat": (model_files() / "mmod_human_face_detector.dat").read_bytes(),
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            read_dlib(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"missing\.dat"):
        read_dlib(tmp_path / "missing.dat")
