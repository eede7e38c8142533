"""Models of published shapes with random weights, for benchmarks without the published weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from restyle.core.checkpoints.directory import save_model
from restyle.core.checkpoints.weights import EncoderWeights, ModelWeights
from restyle.core.errors import SpecError
from restyle.core.networks.config import Domain, EncoderKind
from restyle.core.networks.encoders import StyleEncoder, build_encoder
from restyle.core.networks.generator import Generator, GeneratorConfig, StyledConv

_ENCODER = "random"
_RESIDUAL = 0.2


@dataclass(frozen=True)
class Shape:
    """A published pair of networks.

    Attributes:
        domain: of the model.
        size: side of the generated images in pixels.
        kind: of the encoder, with inputs of 256x256.
    """

    domain: str
    size: int
    kind: EncoderKind


SHAPES = {
    "faces1024": Shape("faces", 1024, EncoderKind.BACKBONE),
    "church256": Shape("church", 256, EncoderKind.PROGRESSIVE_BACKBONE),
}


def write_random_model(name: str, directory: Path, seed: int = 0) -> Path:
    """Write a model directory.

    Args:
        name: one of :data:`SHAPES`.
        directory: does not exist yet.
        seed: of the weights.

    Raises:
        SpecError: there is no such shape.
    """
    if name not in SHAPES:
        raise SpecError(f"shape {name!r} is unknown; known are {', '.join(SHAPES)}")
    shape = SHAPES[name]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        generator = Generator(GeneratorConfig.published(shape.size))
        for layer in generator.modules():
            if isinstance(layer, StyledConv):
                layer.noise.weight.fill_(0.1)
        encoder = build_encoder(shape.kind, generator.config.n_styles)
        _scale_residuals(encoder)
        average = torch.randn(generator.config.n_styles, generator.config.style_dim) / 2
    weights = EncoderWeights(shape.kind, encoder.state_dict(), average)
    domain = Domain(name=name, domain=shape.domain, image_size=(256, 256))
    save_model(
        ModelWeights(domain, generator.state_dict(), {_ENCODER: weights}, _ENCODER), directory
    )
    return directory


def _scale_residuals(encoder: torch.nn.Module) -> None:
    """Scale residuals to the size of trained ones, so that latents can be compared."""
    if not isinstance(encoder, StyleEncoder):
        return
    encoder.eval()
    residual = encoder(torch.rand(1, encoder.in_channels, 64, 64) * 2 - 1)
    for head in encoder.styles:
        head.get_parameter("linear.weight").mul_(_RESIDUAL / residual.std())
