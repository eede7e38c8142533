"""``convert``: generators of all kinds, averages that are computed, encoders that are attached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from restyle.core.checkpoints.conversion import convert, load_generator
from restyle.core.checkpoints.published import published_weights, read_pickle
from restyle.core.errors import CheckpointError, SpecError
from restyle.core.inference.model import Model, load_model
from restyle.core.inference.samples import write_samples
from restyle.core.networks.config import AverageSamples, EncoderKind
from tests.restyle_core import plain
from tests.restyle_core.checkpoints.nvidia import programs
from tests.restyle_core.fabricate import Fabricator, checkpoint, save

WIDTHS = (16, 16, 8, 8)


def ada(path: Path, **options: Any) -> tuple[programs.Generator, Path]:
    torch.manual_seed(2)
    program = programs.Generator(WIDTHS, layers=2, **options)
    return program, programs.write(programs.ada_content(program), path)


def mean_of_mapping(state: plain.State, samples: int, seed: int) -> torch.Tensor:
    z = torch.randn(samples, 32, generator=torch.Generator().manual_seed(seed))
    return plain.mapping(state, z).mean(0)


def step(model: Model, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and images of the first step."""
    previous = model.average_image.expand(len(x), -1, -1, -1)
    latents, image, _ = model.step(x, previous, model.latent_avg.expand(len(x), -1, -1))
    return latents, image


@torch.no_grad()
def test_a_network_pickle_becomes_a_model_that_answers_its_average(tmp_path: Path) -> None:
    program, path = ada(tmp_path / "ffhq.pkl")
    made = convert(path, tmp_path / "model")
    assert made.config.name == "ffhq"
    first = made.found[0]
    assert "a network pickle of StyleGAN2-ADA (PyTorch), 32x32 pixels, 16 to 8 channels" in first
    assert "2 mapping layers" in first
    assert any("has no encoder" in each for each in made.found)
    model = load_model(tmp_path / "model", dtype="fp32", device="cpu")
    average = program.mapping.w_avg.expand(8, -1)
    assert torch.equal(model.latent_avg, average)
    x = torch.rand(2, 3, 256, 256) * 2 - 1
    latents, image = step(model, x)
    assert torch.equal(latents, average.expand(2, -1, -1))
    expected = program.synthesis(average[None]).expand(2, -1, -1, -1)
    assert (image - expected).abs().max() < 1e-4


def test_an_average_is_computed_and_its_seed_recorded(tmp_path: Path) -> None:
    state = Fabricator(3).generator(32, style_dim=32, mapping=3, widths=WIDTHS)
    path = save({"g_ema": state, "d": {}}, tmp_path / "training.pt")
    made = convert(path, tmp_path / "model", "horse")
    assert "a generator in rosinality's layout" in made.found[0]
    assert any("the mean of 10,000 latents" in each and "seed 0" in each for each in made.found)
    entry = made.config.encoders["average"]
    assert entry.kind is EncoderKind.AVERAGE
    assert entry.computed_average == AverageSamples(samples=10_000, seed=0)
    stored = load_file(tmp_path / "model" / entry.file)["latent_avg"]
    expected = mean_of_mapping(state, 10_000, 0)
    torch.testing.assert_close(stored[3], expected, atol=1e-4, rtol=1e-4)
    assert made.config.domain == "horse"
    assert made.domain_reason == "as given"


@pytest.mark.parametrize(
    ("name", "domain", "align"),
    [
        ("stylegan2-ffhq-config-f", "faces", True),
        ("stylegan2-car-config-f", "cars", False),
        ("afhqwild", "wild", False),
        ("network-snapshot-025000", "unknown", False),
    ],
)
def test_the_name_of_a_generator_tells_its_domain(
    name: str, domain: str, align: bool, tmp_path: Path
) -> None:
    _, path = ada(tmp_path / f"{name}.pkl")
    config = convert(path, tmp_path / "model").config
    assert (config.domain, config.align) == (domain, align)
    if domain == "cars":
        assert config.output_rows == (4, 28)
    with pytest.raises(SpecError, match="there is no domain 'trains'"):
        convert(path, tmp_path / "other", "trains")


@torch.no_grad()
def test_samples_are_pictures_at_the_truncation_of_the_domain(tmp_path: Path) -> None:
    program, path = ada(tmp_path / "horse.pkl")
    convert(path, tmp_path / "model")
    assert write_samples(tmp_path / "model", tmp_path / "samples.png") == 0.5
    sheet = np.asarray(Image.open(tmp_path / "samples.png"))
    assert sheet.shape == (4 * 32, 4 * 32, 3)
    z = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    average = program.mapping.w_avg
    w = average + 0.5 * (program.mapping(z) - average)
    images = (program.synthesis(w).clamp(-1, 1) + 1) * 127.5
    expected = images[6].permute(1, 2, 0).numpy()
    # The seventh is in the second row, third column.
    assert np.abs(sheet[32:64, 64:96] - expected).max() <= 0.51


@pytest.mark.parametrize("clamp", [256.0, 0.5])
def test_a_limit_of_activations_is_said_with_its_effect(clamp: float, tmp_path: Path) -> None:
    _, path = ada(tmp_path / "a.pkl", clamp=clamp)
    said = " ".join(convert(path, tmp_path / "model").found)
    assert f"limited to {clamp:g} there" in said
    assert ("has no effect" in said) == (clamp > 100)
    assert ("such images differ" in said) == (clamp < 100)


@pytest.mark.parametrize("with_average", [True, False])
@torch.inference_mode()
def test_an_encoder_is_attached_to_a_generator(with_average: bool, tmp_path: Path) -> None:
    program, generator = ada(tmp_path / "network.pkl")
    content = checkpoint("ProgressiveBackboneEncoder", 32, dataset="celeba_encode")
    if not with_average:
        del content["latent_avg"]
    content["state_dict"] = {
        key: value for key, value in content["state_dict"].items() if key.startswith("encoder.")
    }
    encoder = save(content, tmp_path / "e4e.pt")
    made = convert(generator, tmp_path / "model", encoder=encoder)
    assert made.config.domain == "faces"
    assert made.found[1] == f"{encoder}: a ProgressiveBackboneEncoder"
    model = load_model(tmp_path / "model", dtype="fp32", device="cpu")
    average = content["latent_avg"] if with_average else program.mapping.w_avg.expand(8, -1)
    assert torch.equal(model.latent_avg, average)
    x = torch.rand(2, 3, 256, 256) * 2 - 1
    latents, image = step(model, x)
    y = program.synthesis(average[None])
    y = torch.nn.functional.interpolate(y, (256, 256), mode="nearest").expand(2, -1, -1, -1)
    state = plain.sub(content["state_dict"], "encoder")
    expected = average + plain.encode(
        state, torch.cat([x, y], 1), "ProgressiveBackboneEncoder", (1, 2, 2, 1)
    )
    assert (latents - expected).abs().max() < 1e-3
    assert (image - program.synthesis(latents)).abs().max() < 1e-3


def test_the_encoder_of_a_model_is_attached_to_another_generator(tmp_path: Path) -> None:
    content = checkpoint("BackboneEncoder", 32, seed=1)
    convert(save(content, tmp_path / "one.pt"), tmp_path / "one")
    _, generator = ada(tmp_path / "network.pkl")
    made = convert(generator, tmp_path / "both", encoder=tmp_path / "one")
    assert made.config.encoders["published"].kind is EncoderKind.BACKBONE
    with pytest.raises(SpecError, match="--domain is for published checkpoints"):
        convert(generator, tmp_path / "three", "cars", encoder=tmp_path / "one")
    # And the other way round: the generator of a model.
    again = convert(tmp_path / "both", tmp_path / "four", encoder=tmp_path / "one.pt")
    assert "the generator of a model" in again.found[0]
    assert again.config.generator.sha256 == made.config.generator.sha256


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    _, generator = ada(tmp_path / "network.pkl")
    encoder = save(checkpoint("BackboneEncoder", 64), tmp_path / "larger.pt")
    with pytest.raises(CheckpointError, match="latent_avg is"):
        convert(generator, tmp_path / "model", encoder=encoder)
    content = checkpoint("BackboneEncoder", 64)
    content["latent_avg"] = torch.zeros(32)
    encoder = save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="makes 10 styles of 32, the generator takes 8"):
        convert(generator, tmp_path / "model", encoder=encoder)
    with pytest.raises(CheckpointError, match=r"a generator without an encoder.*--encoder"):
        convert(generator, tmp_path / "model", encoder=generator)
    assert not (tmp_path / "model").exists()


def test_an_encoder_alone_says_what_it_needs(tmp_path: Path) -> None:
    content = checkpoint("BackboneEncoder", 32)
    state = {k: v for k, v in content["state_dict"].items() if k.startswith("encoder.")}
    path = save({**content, "state_dict": state}, tmp_path / "encoder.pt")
    with pytest.raises(CheckpointError, match=r"an encoder without a generator.*--encoder"):
        convert(path, tmp_path / "model")


@pytest.mark.parametrize("wrapped", [True, False])
def test_lucidrains_generators_are_refused_with_the_reason(wrapped: bool, tmp_path: Path) -> None:
    state = {
        "S.net.0.weight": torch.zeros(8, 8),
        "G.initial_block": torch.zeros(1, 8, 4, 4),
        "G.blocks.0.conv1.weight": torch.zeros(8, 8, 3, 3),
        "G.blocks.0.to_noise1.weight": torch.zeros(8, 1),
        "GE.blocks.0.conv1.weight": torch.zeros(8, 8, 3, 3),
    }
    path = save({"GAN": state, "version": "1.8.0"} if wrapped else state, tmp_path / "model_1.pt")
    for read in (lambda: convert(path, tmp_path / "model"), lambda: load_model(path)):
        with pytest.raises(
            CheckpointError, match=r"lucidrains' stylegan2-pytorch.*another network"
        ):
            read()


def test_load_generator_takes_network_pickles(tmp_path: Path) -> None:
    program, path = ada(tmp_path / "a.pkl")
    generator, average = load_generator(path)
    assert generator.config.widths == WIDTHS
    assert average is not None
    assert torch.equal(average, program.mapping.w_avg)


# --- checkpoints of encoders as people have them ------------------------------------------------


def latents_of(content: dict[str, Any], path: Path, x: torch.Tensor) -> torch.Tensor:
    model = load_model(save(content, path), dtype="fp32", device="cpu")
    with torch.no_grad():
        return step(model, x)[0]


def test_without_an_average_it_is_computed(tmp_path: Path) -> None:
    content = checkpoint("BackboneEncoder", 32)
    del content["latent_avg"]
    path = save(content, tmp_path / "a.pt")
    weights = published_weights(read_pickle(path), path)
    encoder = weights.encoders["published"]
    assert encoder.computed_average == AverageSamples(samples=10_000, seed=0)
    decoder = plain.sub(content["state_dict"], "decoder")
    expected = mean_of_mapping(decoder, 10_000, 0).expand(8, -1)
    torch.testing.assert_close(encoder.latent_avg, expected, atol=1e-4, rtol=1e-4)
    made = convert(path, tmp_path / "model")
    assert made.config.encoders["published"].computed_average is not None


PREFIXES = {
    "before the parts": lambda key: f"module.{key}",
    "inside the parts": lambda key: key.replace(".", ".module.", 1),
    "both": lambda key: "module." + key.replace(".", ".module.", 1),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_prefixes_of_several_gpus_are_dropped(name: str, tmp_path: Path) -> None:
    content = checkpoint("BackboneEncoder", 32)
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    expected = latents_of(content, tmp_path / "a.pt", x)
    state = {PREFIXES[name](key): value for key, value in content["state_dict"].items()}
    assert torch.equal(latents_of({**content, "state_dict": state}, tmp_path / "b.pt", x), expected)


def test_half_precision_is_near(tmp_path: Path) -> None:
    content = checkpoint("BackboneEncoder", 32)
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    expected = latents_of(content, tmp_path / "a.pt", x)
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in content["state_dict"].items()
    }
    half = {**content, "state_dict": state, "latent_avg": content["latent_avg"].half()}
    assert (latents_of(half, tmp_path / "b.pt", x) - expected).abs().max() < 1e-2


@pytest.mark.parametrize("name", ["output_size", "stylegan_size"])
def test_the_size_has_two_names(name: str, tmp_path: Path) -> None:
    content = checkpoint("Encoder4Editing", 32, in_channels=3)
    del content["opts"]["output_size"]
    content["opts"][name] = 1024
    with pytest.raises(CheckpointError, match="1024, but the generator's weights make 32"):
        load_model(save(content, tmp_path / "a.pt"))
    content["opts"][name] = 32
    assert not load_model(save(content, tmp_path / "b.pt")).iterative


@pytest.mark.parametrize(
    "kind",
    [
        "GradualStyleEncoder",
        "Encoder4Editing",
        "BackboneEncoderUsingLastLayerIntoW",
        "BackboneEncoderUsingLastLayerIntoWPlus",
    ],
)
@pytest.mark.parametrize("relative", [True, False])
def test_single_pass_encoders_with_and_without_the_average(
    kind: str, relative: bool, tmp_path: Path
) -> None:
    content = checkpoint(kind, 32, in_channels=3)
    content["latent_avg"] = content["latent_avg"][:1].repeat(8, 1)
    content["opts"]["start_from_latent_avg"] = relative
    x = torch.rand(2, 3, 256, 256) * 2 - 1
    state = plain.sub(content["state_dict"], "encoder")
    with torch.no_grad():
        expected = plain.encode(state, x, kind, (1, 2, 2, 1)).expand(2, 8, 32)
    if relative:
        expected = expected + content["latent_avg"]
    model = load_model(save(content, tmp_path / "model.pt"), dtype="fp32", device="cpu")
    # Truncation and the viewer need the average in both cases.
    assert torch.equal(model.latent_avg, content["latent_avg"])
    with torch.no_grad():
        ours, _ = step(model, x)
    assert (ours - expected).abs().max() < 1e-3


def test_the_other_name_of_the_encoder_into_w(tmp_path: Path) -> None:
    content = checkpoint("BackboneEncoderUsingLastLayerIntoW", 32, in_channels=3)
    content["opts"]["encoder_type"] = "SingleStyleCodeEncoder"
    made = convert(save(content, tmp_path / "w.pt"), tmp_path / "model")
    assert made.config.encoders["published"].kind is EncoderKind.INTO_W
    assert load_model(tmp_path / "model").n_styles == 8
