"""Weights that are not finite are refused with the tensor and the number of values."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from restyle.core.checkpoints.conversion import convert, load_generator
from restyle.core.errors import CheckpointError
from restyle.core.inference.model import load_model
from tests.restyle_core.fabricate import Fabricator, checkpoint, save
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return checkpoint("BackboneEncoder", 32)


NOT_FINITE = {
    "one infinity in the encoder": ("encoder.styles.0.linear.weight", 1, math.inf),
    "NaN in a norm's variance": ("encoder.input_layer.1.running_var", 3, math.nan),
    "the generator's constant": ("decoder.input.input", 2, -math.inf),
    "the noise": ("decoder.noises.noise_1", 5, math.nan),
}


@pytest.mark.parametrize("case", NOT_FINITE)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_weights_that_are_not_finite_are_named_and_counted(
    content: dict[str, Any], tmp_path: Path, case: str, half: bool
) -> None:
    key, count, value = NOT_FINITE[case]
    tensor = content["state_dict"][key].clone()
    tensor.view(-1)[:count] = value
    state = {**content["state_dict"], key: tensor}
    if half:
        state = {
            name: each.half() if each.is_floating_point() else each for name, each in state.items()
        }
    path = save({**content, "state_dict": state}, tmp_path / "bad.pt")
    named = re.escape(f"{key.partition('.')[2]} ({count} of {tensor.numel()})")
    for read in (load_model, lambda path: convert(path, tmp_path / "converted")):
        with pytest.raises(CheckpointError, match=f"bad.pt.*not finite: {named}"):
            read(path)
    assert not (tmp_path / "converted").exists()


def test_many_tensors_that_are_not_finite_are_counted(
    content: dict[str, Any], tmp_path: Path
) -> None:
    state = {
        name: torch.full_like(each, math.nan) if each.is_floating_point() else each
        for name, each in content["state_dict"].items()
    }
    path = save({**content, "state_dict": state}, tmp_path / "diverged.pt")
    with pytest.raises(CheckpointError, match=r"and \d+ more tensors; .*earlier checkpoint"):
        load_model(path)


def test_doubles_beyond_float32_are_not_finite(content: dict[str, Any], tmp_path: Path) -> None:
    key = "encoder.styles.0.linear.bias"
    tensor = content["state_dict"][key].double()
    tensor[4] = 1e300
    path = save(
        {**content, "state_dict": {**content["state_dict"], key: tensor}}, tmp_path / "big.pt"
    )
    with pytest.raises(CheckpointError, match=re.escape(f"linear.bias (1 of {tensor.numel()})")):
        load_model(path)


def test_a_model_directory_with_a_value_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    config = json.loads((model / "model.json").read_text())
    entry = config["encoders"]["restyle-psp"]
    tensors = load_file(model / entry["file"])
    key = next(key for key, each in tensors.items() if each.ndim == 4)
    tensors[key].view(-1)[7] = math.nan
    save_file(tensors, model / entry["file"])
    entry["sha256"] = hashlib.sha256((model / entry["file"]).read_bytes()).hexdigest()
    (model / "model.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=re.escape(f"{key} (1 of")):
        load_model(model)


def test_a_generator_file_with_an_average_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    state = Fabricator(0).generator(32, style_dim=32, mapping=2, widths=(32, 32, 16, 16))
    average = torch.zeros(32)
    average[3:5] = math.inf
    path = save({"g_ema": state, "latent_avg": average}, tmp_path / "generator.pt")
    with pytest.raises(CheckpointError, match=re.escape("latent_avg (2 of 32)")):
        load_generator(path)
