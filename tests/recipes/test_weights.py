"""The shipped weights of dlib's networks are those of dlib's files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from recipes.weights.import_dlib import NETWORKS, Network, read_dlib
from restyle.core.errors import CheckpointError
from restyle.core.faces.alignment import model_files
from restyle.core.faces.mmod.network import load_mmod_network
from restyle.core.faces.recognition import load_face_embedder
from tests.command import ROOT

LOADERS: dict[str, Callable[[], nn.Module]] = {
    "dlib_recognition": load_face_embedder,
    "dlib_face_detector": load_mmod_network,
}

each_network = pytest.mark.parametrize(
    "network", NETWORKS, ids=lambda network: network.weights.stem
)


@each_network
def test_what_ships_is_what_dlibs_file_holds(network: Network) -> None:
    shipped = LOADERS[network.weights.stem]().state_dict()
    read = read_dlib(network, model_files() / network.name).state_dict()
    assert list(shipped) == list(read)
    assert all(torch.equal(shipped[name], read[name]) for name in shipped)
    with safe_open(network.weights, "pt") as file:
        assert file.metadata()["licence"] == "CC0-1.0"


def test_the_recipe_makes_the_files_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.weights.import_dlib", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for network in NETWORKS:
        made, shipped = load_file(tmp_path / network.weights.name), load_file(network.weights)
        assert made.keys() == shipped.keys()
        assert all(torch.equal(made[name], shipped[name]) for name in made)
        (tmp_path / network.name).write_bytes((model_files() / network.name).read_bytes() + b"x")
        done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert f"{network.name} has sha256" in done.stderr
        (tmp_path / network.name).write_bytes((model_files() / network.name).read_bytes())


@each_network
def test_damaged_files_are_refused(network: Network, tmp_path: Path) -> None:
    whole = (model_files() / network.name).read_bytes()
    (other,) = (model_files() / one.name for one in NETWORKS if one != network)
    damaged = {
        "short.dat": whole[: len(whole) // 2],
        "junk.dat": b"x" * 5000,
        "long.dat": whole + whole[-100_000:],
        "other.dat": other.read_bytes(),
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            read_dlib(network, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"missing\.dat"):
        read_dlib(network, tmp_path / "missing.dat")
