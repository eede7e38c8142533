"""A model directory with random weights, small enough that the pipeline around it is what runs."""

from __future__ import annotations

from pathlib import Path

import torch

from restyle.core.checkpoints.directory import save_model
from restyle.core.checkpoints.weights import EncoderWeights, ModelWeights
from restyle.core.networks.config import Domain, EncoderKind
from restyle.core.networks.generator import Generator, GeneratorConfig
from restyle.core.networks.small_encoder import SmallBackboneEncoder, SmallEncoderConfig


def make_tiny_model(directory: Path, *, align: bool = True, seed: int = 0) -> Path:
    """Write a model of 64x64 images with an iterative and a single-pass encoder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = GeneratorConfig((16, 16, 16, 16, 8), style_dim=32, z_dim=32, mapping_layers=2)
        generator = Generator(shape)
        encoders = {
            name: _encoder(shape, channels)
            for name, channels in (("restyle-psp", 6), ("single-pass-psp", 3))
        }
    domain = Domain(
        name=directory.name,
        domain="faces" if align else "church",
        image_size=(64, 64),
        align=align,
        framing_scale=0.8,
    )
    save_model(ModelWeights(domain, generator.state_dict(), encoders, "restyle-psp"), directory)
    return directory


def _encoder(shape: GeneratorConfig, channels: int) -> EncoderWeights:
    network = SmallBackboneEncoder(
        SmallEncoderConfig(
            shape.n_styles,
            shape.style_dim,
            channels,
            (64, 64),
            widths=(16, 16, 32, 32),
            depths=(1, 1, 1, 1),
            fine_width=16,
        )
    )
    # Fresh heads predict nothing at all, which would hide mistakes.
    state = {
        key: tensor + 0.05 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for key, tensor in network.state_dict().items()
    }
    average = torch.randn(shape.n_styles, shape.style_dim)
    return EncoderWeights(EncoderKind.SMALL_BACKBONE, state, average)
