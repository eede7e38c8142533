"""The generator against the published keys and against formulas written out anew."""

from __future__ import annotations

import math

import pytest
import torch

from restyle.core.checkpoints.weights import assemble_generator
from restyle.core.errors import CheckpointError
from restyle.core.networks.generator import Generator, GeneratorConfig
from tests.restyle_core import plain
from tests.restyle_core.fabricate import Fabricator

TINY = {"style_dim": 24, "mapping": 3, "widths": (12, 20, 16, 8)}


def tiny(seed: int = 0) -> tuple[Generator, plain.State]:
    state = Fabricator(seed).generator(32, **TINY)
    return assemble_generator(state, "test"), state


@pytest.mark.parametrize("size", [32, 64, 128, 256, 512, 1024])
def test_published_keys_shapes_and_output(size: int) -> None:
    with torch.device("meta"):
        generator = Generator(GeneratorConfig.published(size))
        image = generator.synthesis(torch.zeros(2, generator.config.n_styles, 512))
        sampled = generator(torch.zeros(2, 512))
    assert image.shape == sampled.shape == (2, 3, size, size)
    assert generator.config.n_styles == 2 * int(math.log2(size)) - 2
    published = Fabricator().generator(size)
    ours = {key: tensor.shape for key, tensor in generator.state_dict().items()}
    assert ours == {key: tensor.shape for key, tensor in published.items()}


def test_widths_at_multiplier_two() -> None:
    assert GeneratorConfig.published(1024).widths == (512, 512, 512, 512, 512, 256, 128, 64, 32)


def test_two_mapping_layers_and_half_the_channels_are_read_from_the_weights() -> None:
    widths = (512, 512, 512, 512, 256, 128, 64)
    state = Fabricator().generator(256, mapping=2, widths=widths)
    assert GeneratorConfig.from_state(state) == GeneratorConfig(widths, mapping_layers=2)
    assert widths == GeneratorConfig.published(256, channel_multiplier=1).widths
    generator = assemble_generator(state, "test")
    z = torch.randn(3, 512)
    torch.testing.assert_close(generator.mapping(z), plain.mapping(state, z), atol=1e-5, rtol=1e-4)


def test_synthesis_agrees_with_the_plain_formulas() -> None:
    generator, state = tiny()
    latents = torch.randn(3, 8, 24)
    with torch.inference_mode():
        ours = generator.synthesis(latents)
    expected = plain.synthesis(state, latents)
    assert expected.std() > 0.3
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_sampling_agrees_with_the_plain_formulas() -> None:
    generator, state = tiny()
    z = torch.randn(2, 24)
    w = plain.mapping(state, z)
    centre = torch.randn(24)
    truncated = centre + 0.7 * (w - centre)
    expected = plain.synthesis(state, truncated[:, None].repeat(1, 8, 1))
    with torch.inference_mode():
        ours = generator(z, psi=0.7, mean=centre)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_mean_latent_is_the_mean_of_the_mapping() -> None:
    generator, state = tiny()
    z = torch.randn(500, 24, generator=torch.Generator().manual_seed(3))
    expected = plain.mapping(state, z).mean(dim=0)
    torch.testing.assert_close(generator.mean_latent(500, seed=3), expected, atol=1e-5, rtol=1e-4)


def test_every_style_matters_and_every_image_has_its_own() -> None:
    generator, _ = tiny()
    latents = torch.randn(1, 8, 24)
    changed = latents.repeat(8, 1, 1)
    changed[torch.arange(8), torch.arange(8)] += 1.0
    with torch.inference_mode():
        base, images = generator.synthesis(latents), generator.synthesis(changed)
        alone = generator.synthesis(changed[3:4])
    assert ((images - base).abs().mean(dim=(1, 2, 3)) > 1e-3).all()
    torch.testing.assert_close(images[3:4], alone, atol=2e-5, rtol=1e-4)


def test_stored_noise_is_used_unless_other_noise_is_given() -> None:
    generator, _ = tiny()
    latents = torch.randn(2, 8, 24)
    with torch.inference_mode():
        first, second = generator.synthesis(latents), generator.synthesis(latents)
        fresh = generator.synthesis(latents, generator.fresh_noise(2))
    assert torch.equal(first, second)
    assert (first - fresh).abs().mean() > 1e-3


def test_bf16_activations_stay_close() -> None:
    generator, _ = tiny()
    latents = torch.randn(2, 8, 24)
    with torch.inference_mode():
        exact = generator.synthesis(latents)
        generator.dtype = torch.bfloat16
        rounded = generator.synthesis(latents)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_gradients_agree_with_the_plain_formulas() -> None:
    generator, state = tiny()
    ours = torch.randn(2, 8, 24, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    weight = torch.randn(2, 3, 32, 32)
    (generator.synthesis(ours) * weight).sum().backward()
    (plain.synthesis(state, theirs) * weight).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    # Not element by element: rounding may put an activation on the other side of the ReLU's kink.
    assert (ours.grad - theirs.grad).norm() < 1e-3 * theirs.grad.norm()


def test_foreign_weights_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no StyleGAN2 generator.*input\.input"):
        GeneratorConfig.from_state({})
