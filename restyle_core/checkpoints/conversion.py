"""Convert published files to model directories, and attach encoders to generators."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from restyle.core.checkpoints.directory import read_model, save_model
from restyle.core.checkpoints.domain_choice import choose_domain
from restyle.core.checkpoints.foreign_files import is_network_pickle
from restyle.core.checkpoints.generators import FoundGenerator, read_generator
from restyle.core.checkpoints.published import (
    domain_settings,
    is_generator_file,
    joined,
    published_encoder,
    published_weights,
    read_pickle,
)
from restyle.core.checkpoints.weights import (
    EncoderWeights,
    ModelWeights,
    assemble_generator,
    average_latent,
    expand_average,
    generator_shape,
)
from restyle.core.domains import DomainPreset, preset_named_in, preset_of
from restyle.core.errors import CheckpointError, SpecError
from restyle.core.networks.config import EncoderKind, ModelConfig, find_model
from restyle.core.networks.generator import Generator, StyledConv

AVERAGE_NAME = "average"
"""Name of the encoder of a generator without one."""

_CLAMP_SAMPLES = 8


@dataclass(frozen=True)
class Converted:
    """What was converted.

    Attributes:
        config: content of the new ``model.json``.
        domain_reason: why this domain was chosen, as a clause.
        found: what the files are and what was computed, one sentence each.
    """

    config: ModelConfig
    domain_reason: str
    found: tuple[str, ...]


def convert(
    source: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    domain: str | None = None,
    encoder: str | os.PathLike[str] | None = None,
) -> Converted:
    """Convert a published checkpoint or generator to a model directory.

    Args:
        source: an encoder checkpoint with its generator; or a generator: a network pickle of
            NVIDIA's, a generator file, an encoder checkpoint or a model.
        out_dir: path of a directory that does not exist yet.
        domain: domain of the model; None infers it from the encoder's options.
        encoder: checkpoint of an encoder to attach to the generator, or a model with one. Without
            it a generator gets an encoder that answers its average latent.

    Raises:
        CheckpointError: a file is unusable, or they do not fit; nothing is written.
        SpecError: the domain or a model is unknown.
        FatalError: the directory exists or cannot be written.
    """
    path = Path(source)
    if encoder is not None:
        weights, found = _attached(str(source), str(encoder), domain)
    elif _is_generator(path):
        weights, found = _alone(path, domain)
    else:
        weights = published_weights(read_pickle(path), path, domain)
        kind = weights.encoders[weights.default_encoder].kind
        found = [f"{path}: a {kind} with its generator, {_shape(weights)}"]
    found += _about_average(weights)
    try:
        config = save_model(weights, out_dir)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Converted(config, weights.domain_reason, tuple(found))


def load_generator(path: str | os.PathLike[str]) -> tuple[Generator, Tensor | None]:
    """Load the generator of any file that :func:`restyle.core.checkpoints.generators` reads.

    Returns:
        The generator, and its average latent as stored ([512] or [n_styles, 512]), or None.

    Raises:
        CheckpointError: the file is unusable.
    """
    path = Path(path)
    found = read_generator(path)
    generator = assemble_generator(found.state, str(path))
    if found.latent_avg is not None:
        expand_average(found.latent_avg, generator.config.n_styles, str(path))
    return generator, found.latent_avg


def _is_generator(path: Path) -> bool:
    return is_network_pickle(path) or is_generator_file(read_pickle(path))


def _alone(path: Path, domain: str | None) -> tuple[ModelWeights, list[str]]:
    found = read_generator(path)
    generator = assemble_generator(found.state, str(path))
    average, computed = average_latent(generator, found.latent_avg, str(path))
    preset, reason = _domain_of(path, domain)
    weights = ModelWeights(
        domain_settings(preset, path.stem, generator.config.size),
        found.state,
        {AVERAGE_NAME: EncoderWeights(EncoderKind.AVERAGE, {}, average, computed)},
        AVERAGE_NAME,
        reason,
    )
    sentences = [
        f"{path}: {found.found}, {_shape(weights)}",
        "it has no encoder: `restyle optimize` starts from its average latent, or --encoder "
        "ENCODER attaches one",
    ]
    return weights, sentences + _about_clamp(found, generator, average)


def _domain_of(path: Path, domain: str | None) -> tuple[DomainPreset, str]:
    """Preset of a generator's domain, and why it is this one."""
    if domain:
        return choose_domain({}, EncoderKind.AVERAGE, 0, domain).preset, "as given"
    if named := preset_named_in(path.stem):
        return named, "as the file is called; --domain chooses otherwise"
    return preset_of("unknown"), "a generator says nothing; --domain chooses otherwise"


def _attached(source: str, encoder: str, domain: str | None) -> tuple[ModelWeights, list[str]]:
    found = _generator_of(source)
    path, name = find_model(encoder)
    if path.is_dir():
        if domain:
            raise SpecError(
                f"--domain is for published checkpoints; {encoder} says itself what it is for"
            )
        _, model = read_model(path, name)
        weights = ModelWeights(
            model.domain,
            found.state,
            model.encoders,
            model.default_encoder,
            "as the encoder's model says",
        )
    else:
        published = published_encoder(read_pickle(path), path)
        weights = joined(published, found.state, path, domain, found.latent_avg)
    kind = weights.encoders[weights.default_encoder].kind
    sentences = [f"{source}: {found.found}, {_shape(weights)}", f"{encoder}: a {kind}"]
    if found.clamp is not None:
        generator = assemble_generator(found.state, source)
        average = weights.encoders[weights.default_encoder].latent_avg
        sentences += _about_clamp(found, generator, average)
    return weights, sentences


def _generator_of(source: str) -> FoundGenerator:
    path, name = find_model(source)
    if not path.is_dir():
        return read_generator(path)
    _, model = read_model(path, name)
    average = model.encoders[model.default_encoder].latent_avg
    return FoundGenerator(model.generator, average, "the generator of a model")


def _shape(weights: ModelWeights) -> str:
    shape = generator_shape(weights.generator, "the model")
    return (
        f"{shape.size}x{shape.size} pixels, {max(shape.widths)} to {min(shape.widths)} channels, "
        f"{shape.mapping_layers} mapping layers"
    )


def _about_average(weights: ModelWeights) -> list[str]:
    computed = weights.encoders[weights.default_encoder].computed_average
    if computed is None:
        return []
    return [
        f"latent_avg is the mean of {computed.samples:,} latents of the mapping network, seed "
        f"{computed.seed}: there was none"
    ]


def _about_clamp(found: FoundGenerator, generator: Generator, average: Tensor) -> list[str]:
    """Say whether a limit of activations, which is not applied here, has an effect."""
    if found.clamp is None:
        return []
    peak = peak_activation(generator, average)
    if peak <= found.clamp:
        return [
            f"activations are limited to {found.clamp:g} there; the largest in {_CLAMP_SAMPLES} "
            f"samples is {peak:.1f}, so that the limit has no effect"
        ]
    return [
        f"activations are limited to {found.clamp:g} there and not here, and reach {peak:.1f} in "
        f"{_CLAMP_SAMPLES} samples: such images differ"
    ]


@torch.no_grad()
def peak_activation(generator: Generator, average: Tensor) -> float:
    """The largest magnitude of activations in random images and the average one.

    Args:
        generator: on the CPU, in float32.
        average: [n_styles, style_dim] average latent.
    """
    peaks: list[float] = []

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        peaks.append(float(output.abs().amax()))

    handles = [
        module.register_forward_hook(note)
        for module in generator.modules()
        if isinstance(module, StyledConv)
    ]
    source = torch.Generator().manual_seed(0)
    z = torch.randn(_CLAMP_SAMPLES, generator.config.z_dim, generator=source)
    rows = generator.mapping(z)[:, None].expand(-1, generator.config.n_styles, -1)
    for latents in (*torch.split(rows, 1), average[None]):
        generator.synthesis(latents)
    for handle in handles:
        handle.remove()
    return max(peaks)
