"""Generator, encoder and average latent of a model, read from any place that holds one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from restyle.core.checkpoints.directory import read_model
from restyle.core.checkpoints.published import published_weights, read_pickle
from restyle.core.checkpoints.weights import (
    ModelWeights,
    assemble_encoder,
    assemble_generator,
    expand_average,
)
from restyle.core.errors import CheckpointError
from restyle.core.networks.config import (
    MODEL_FILE,
    EncoderFile,
    GeneratorFile,
    ModelConfig,
    file_sha256,
    find_model,
)
from restyle.core.networks.encoders import Encoder
from restyle.core.networks.generator import Generator


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks of one model, on the CPU.

    Attributes:
        config: as of a model directory.
        encoder_name: name of the encoder in the config.
        generator: float32.
        encoder: float32, as it was trained.
        latent_avg: [n_styles, style_dim] float32.
        domain_reason: how the domain of a published checkpoint was derived; else empty.
    """

    config: ModelConfig
    encoder_name: str
    generator: Generator
    encoder: Encoder
    latent_avg: Tensor
    domain_reason: str = ""


def load_networks(spec: str) -> Networks:
    """Read the networks of a model.

    Args:
        spec: as for :func:`restyle.load_model`.

    Raises:
        SpecError: an unknown model, encoder or domain.
        CheckpointError: files are missing, damaged, unsafe or do not fit together.
    """
    path, chosen = find_model(spec)
    found = _read_directory(path, chosen) if path.is_dir() else _read_published(path, chosen)
    _check_sizes(found)
    return found


def _read_directory(directory: Path, encoder_name: str | None) -> Networks:
    config, weights = read_model(directory, encoder_name)
    name = weights.default_encoder
    generator, encoder, latent_avg = _assemble(weights, directory)
    if config.encoders[name].iterative != (encoder.in_channels == 6):
        raise CheckpointError(
            f"{directory / MODEL_FILE}: encoder {name!r} takes {encoder.in_channels} channels, "
            f"which contradicts iterative = {config.encoders[name].iterative}"
        )
    return Networks(config, name, generator, encoder, latent_avg)


def _read_published(path: Path, domain: str | None) -> Networks:
    weights = published_weights(read_pickle(path), path, domain)
    name = weights.default_encoder
    generator, encoder, latent_avg = _assemble(weights, path)
    digest = file_sha256(path)
    entry = EncoderFile(
        file=path.name,
        sha256=digest,
        kind=weights.encoders[name].kind,
        iterative=encoder.in_channels == 6,
    )
    config = ModelConfig(
        **weights.domain.model_dump(),
        generator=GeneratorFile(file=path.name, sha256=digest),
        encoders={name: entry},
        default_encoder=name,
    )
    return Networks(config, name, generator, encoder, latent_avg, weights.domain_reason)


def _assemble(weights: ModelWeights, path: Path) -> tuple[Generator, Encoder, Tensor]:
    encoder_weights = weights.encoders[weights.default_encoder]
    generator = assemble_generator(weights.generator, str(path))
    encoder = assemble_encoder(encoder_weights, generator, str(path))
    average = expand_average(encoder_weights.latent_avg, encoder.n_styles, str(path))
    return generator, encoder, average


def _check_sizes(found: Networks) -> None:
    """Check the sizes in the config against the networks."""
    config, size = found.config, found.generator.config.size
    if not found.encoder.accepts(config.image_size):
        height, width = config.image_size
        raise CheckpointError(
            f"{config.name}: the encoder {found.encoder_name!r} takes no images of "
            f"{height}x{width} pixels; correct image_size in {MODEL_FILE}"
        )
    if config.output_rows is not None and config.output_rows[1] > size:
        raise CheckpointError(
            f"{config.name}: output_rows {config.output_rows} lie outside of the {size} generated "
            "rows"
        )
