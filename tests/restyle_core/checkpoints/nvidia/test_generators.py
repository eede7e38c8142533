"""Generators of NVIDIA's programs make the images that the programs' own formulas make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from restyle.core.checkpoints.nvidia.pickles import read_network_pickle
from restyle.core.checkpoints.weights import assemble_generator
from restyle.core.errors import CheckpointError
from restyle.core.networks.generator import Generator
from tests.restyle_core.checkpoints.nvidia import programs

# config-e has half of the channels of config-f at high resolutions, auto two mapping layers.
SHAPES: dict[str, dict[str, Any]] = {
    "config-f": {"widths": (16, 16, 16, 8), "layers": 8},
    "config-e": {"widths": (16, 16, 8, 4), "layers": 8},
    "auto": {"widths": (16, 16, 8), "layers": 2},
    "another multiplier of the mapping": {"widths": (8, 8), "layers": 3},
    "64 pixels": {"widths": (12, 12, 8, 8, 4), "layers": 2},
}


def loaded(content: object, path: Path, protocol: int = 4) -> Generator:
    network = read_network_pickle(programs.write(content, path / "network.pkl", protocol))
    return assemble_generator(network.state, "test")


def agree(generator: Generator, z: torch.Tensor, ws: torch.Tensor, images: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(generator.mapping(z), ws[:, 0], atol=1e-5, rtol=1e-4)
        ours = generator.synthesis(ws)
    assert images.std() > 0.3
    assert (ours - images).abs().max() < 1e-4


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_stylegan2_ada(name: str, protocol: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    lr = 0.02 if name.startswith("another") else 0.01
    program = programs.Generator(**SHAPES[name], lr=lr)
    generator = loaded(programs.ada_content(program), tmp_path, protocol)
    assert generator.config.mapping_layers == SHAPES[name]["layers"]
    assert generator.config.widths == SHAPES[name]["widths"]
    z = torch.randn(3, 32)
    ws = program.mapping(z)
    # Another latent for each layer, so that an exchange of layers shows.
    mixed = ws + 0.5 * torch.randn_like(ws)
    agree(generator, z, ws, program.synthesis(ws))
    assert (generator.synthesis(mixed) - program.synthesis(mixed)).abs().max() < 1e-4


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_stylegan2_of_tensorflow(name: str, protocol: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    options = {"mapping_lrmul": 0.02} if name.startswith("another") else {}
    network = programs.tf_generator(**SHAPES[name], **options)
    other = programs.tf_generator((4, 4), seed=5)
    generator = loaded((other, other, network), tmp_path, protocol)
    z = torch.randn(3, 32)
    ws = programs.tf_mapping(network, z)[:, None].repeat(1, 2 * len(SHAPES[name]["widths"]), 1)
    mixed = ws + 0.5 * torch.randn_like(ws)
    agree(generator, z, ws, programs.tf_synthesis(network, ws))
    images = programs.tf_synthesis(network, mixed)
    assert (generator.synthesis(mixed) - images).abs().max() < 1e-4


def test_the_tracked_average_is_taken(tmp_path: Path) -> None:
    program = programs.Generator((8, 4))
    path = programs.write(programs.ada_content(program), tmp_path / "a.pkl")
    average = read_network_pickle(path).latent_avg
    assert average is not None
    assert torch.equal(average, program.mapping.w_avg)
    network = programs.tf_generator((8, 4))
    path = programs.write(network, tmp_path / "b.pkl")
    average = read_network_pickle(path).latent_avg
    assert average is not None
    expected = dict(network.state["variables"])["dlatent_avg"]
    assert np.array_equal(average.numpy(), expected)


@torch.no_grad()
def test_half_precision_and_other_dtypes_become_float32(tmp_path: Path) -> None:
    program = programs.Generator((8, 4), layers=2)
    program.half()
    generator = loaded(program, tmp_path)
    program.float()
    ws = program.mapping(torch.randn(2, 32))
    assert (generator.synthesis(ws) - program.synthesis(ws)).abs().max() < 1e-4


@torch.no_grad()
def test_a_network_without_noise(tmp_path: Path) -> None:
    program = programs.Generator((8, 4), layers=2)
    for block in (program.synthesis.b4, program.synthesis.b8):
        for layer in block.children():
            if isinstance(layer, programs.SynthesisLayer):
                layer.use_noise = False
                layer.noise_const.zero_()
                images_without = layer._buffers.pop("noise_const")
                del layer._parameters["noise_strength"]
                assert not images_without.any()
    generator = loaded(program, tmp_path)
    for block in (program.synthesis.b4, program.synthesis.b8):
        for layer in block.children():
            if isinstance(layer, programs.SynthesisLayer):
                layer.noise_const, layer.noise_strength = torch.zeros(1), torch.zeros(1)
    ws = program.mapping(torch.randn(2, 32))
    assert (generator.synthesis(ws) - program.synthesis(ws)).abs().max() < 1e-4


def conditional() -> object:
    return programs.ada_content(programs.Generator((8, 4), c=10))


def architecture(name: str) -> object:
    program = programs.Generator((8, 4))
    program.synthesis.b8.architecture = name
    return program


def other_filter() -> object:
    program = programs.Generator((8, 4))
    program.synthesis.b8.conv0.resample_filter = torch.ones(4, 4) / 16
    return program


def changed(layer: str, **attributes: object) -> Callable[[], object]:
    def make() -> object:
        program = programs.Generator((8, 4))
        for name, value in attributes.items():
            setattr(program.get_submodule(layer), name, value)
        return program

    return make


def without(layer: str, kind: str, name: str) -> Callable[[], object]:
    def make() -> object:
        program = programs.Generator((8, 4))
        del getattr(program.get_submodule(layer), kind)[name]
        return program

    return make


def stylegan3() -> object:
    program = programs.Generator((8, 4))
    program.synthesis = programs.FullyConnectedLayer(2, 2)
    return programs.ada_content(program)


def tf(**options: Any) -> Callable[[], object]:
    return lambda: programs.tf_generator((8, 4), **options)


def tf_version(version: int) -> object:
    network = programs.tf_generator((8, 4))
    network.state["version"] = version
    return (network, network, network)


def tf_of_stylegan() -> object:
    network = programs.tf_generator((8, 4))
    part = network.state["components"]["synthesis"]
    part.state["variables"] = [
        (name.replace("ToRGB", "ToRGB_lod0"), value) for name, value in part.state["variables"]
    ]
    return network


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "conditional": (conditional, r"is conditional \(of 10 labels\)"),
    "conditional, TensorFlow": (tf(labels=10), r"is conditional \(of 10 labels\)"),
    "resnet": (
        lambda: architecture("resnet"),
        r"the architecture 'resnet' in G_ema\.synthesis\.b8",
    ),
    "orig": (lambda: architecture("orig"), "the architecture 'orig'"),
    "resnet, TensorFlow": (tf(architecture="resnet"), "has architecture = 'resnet'"),
    "another filter": (other_filter, r"another filter than \[1, 3, 3, 1\]"),
    "another filter, TensorFlow": (tf(resample_kernel=[1, 2, 1]), r"resample_kernel = \[1, 2, 1\]"),
    "another activation": (
        changed("synthesis.b4.conv1", activation="relu"),
        r"the activation 'relu' in G_ema\.synthesis\.b4\.conv1",
    ),
    "another activation of the mapping": (
        changed("mapping.fc3", activation="relu"),
        r"the activation 'relu' in G_ema\.mapping\.fc3",
    ),
    "another activation, TensorFlow": (tf(nonlinearity="relu"), "nonlinearity = 'relu'"),
    "another gain": (changed("synthesis.b4.conv1", act_gain=1.0), "the gain 1 in"),
    "grey images": (changed("", img_channels=1), "images of 1 channels"),
    "grey images, TensorFlow": (tf(num_channels=1), "num_channels = 1"),
    "an odd size": (changed("", img_resolution=100), "makes images of 100 pixels"),
    "StyleGAN3": (stylegan3, "holds another network than StyleGAN2's"),
    "StyleGAN": (lambda: tf_version(3), "is of version 3, from before StyleGAN2"),
    "config-d": (tf_of_stylegan, "configs a to d"),
    "a discriminator": (programs.Discriminator, r"has no network in G_ema\.synthesis"),
    "a missing weight": (
        without("synthesis.b8.conv0", "_parameters", "weight"),
        r"has no tensor G_ema\.synthesis\.b8\.conv0\.weight",
    ),
    "a missing layer": (
        without("mapping", "_modules", "fc5"),
        r"has no network in G_ema\.mapping\.fc5",
    ),
    "a missing block": (
        without("synthesis", "_modules", "b8"),
        r"has no network in G_ema\.synthesis\.b8",
    ),
    "nothing": (dict, "holds no generator; give a network pickle"),
    "no moving average": (lambda: {"G": programs.Generator((8, 4))}, "holds no generator"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    make, said = REFUSED[name]
    path = programs.write(make(), tmp_path / "network.pkl")
    with pytest.raises(CheckpointError, match=said) as error:
        read_network_pickle(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
