"""The small encoder: shapes, gradients, precisions, and its shape read back from weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from restyle.core.errors import CheckpointError
from restyle.core.networks.small_encoder import SmallBackboneEncoder, SmallEncoderConfig

CONFIG = SmallEncoderConfig(10)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        dataclasses.replace(CONFIG, in_channels=3, n_styles=8, image_size=(32, 32)),
        SmallEncoderConfig(
            7,
            style_dim=24,
            image_size=(24, 40),
            widths=(16, 32, 32, 48),
            depths=(1, 2, 1, 3),
            fine_width=32,
        ),
    ],
)
def test_shape_is_read_back_from_the_weights(config: SmallEncoderConfig) -> None:
    encoder = SmallBackboneEncoder(config)
    assert SmallEncoderConfig.from_state(encoder.state_dict()) == config
    styles = encoder(torch.zeros(2, config.in_channels, *config.image_size))
    assert styles.shape == (2, config.n_styles, config.style_dim)


def test_about_four_million_parameters() -> None:
    encoder = SmallBackboneEncoder(CONFIG)
    assert 3.5e6 < sum(parameter.numel() for parameter in encoder.parameters()) < 4.5e6


def test_first_residual_is_small_and_depends_on_the_input() -> None:
    torch.manual_seed(0)
    styles = SmallBackboneEncoder(CONFIG)(torch.rand(4, 6, 64, 64) * 2 - 1)
    assert 1e-4 < styles.abs().mean().item() < 0.05
    assert styles.var(dim=0).mean() > 0


@pytest.mark.parametrize("mode", ["fp32", "autocast", "bf16"])
def test_every_parameter_gets_a_finite_gradient(mode: str) -> None:
    torch.manual_seed(0)
    encoder = SmallBackboneEncoder(CONFIG).to(memory_format=torch.channels_last)
    x = (torch.rand(2, 6, 64, 64) * 2 - 1).to(memory_format=torch.channels_last)
    if mode == "bf16":
        encoder, x = encoder.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        styles = encoder(x)
    assert styles.dtype == torch.float32
    (styles * torch.randn_like(styles)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_bf16_agrees_with_fp32() -> None:
    torch.manual_seed(0)
    encoder = SmallBackboneEncoder(CONFIG)
    x = torch.rand(2, 6, 64, 64) * 2 - 1
    with torch.inference_mode():
        exact = encoder(x)
        rounded = encoder.bfloat16()(x.bfloat16())
    assert (rounded - exact).abs().max() < 0.03 * exact.abs().max()


def test_an_image_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    encoder = SmallBackboneEncoder(CONFIG)
    x = torch.rand(3, 6, 64, 64) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), atol=1e-6, rtol=1e-4)


def test_foreign_weights_are_refused() -> None:
    with pytest.raises(CheckpointError, match="no SmallBackboneEncoder"):
        SmallEncoderConfig.from_state({"stem.weight": torch.zeros(1)})
