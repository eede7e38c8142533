"""The project's own model format: a directory of safetensors files and a typed ``model.json``.

Safetensors cannot hold code, and every file is checked against the checksum in ``model.json``
before it is used.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from restyle.core.checkpoints.published import (
    generator_weights,
    is_generator_file,
    published_weights,
    read_pickle,
)
from restyle.core.checkpoints.weights import (
    EncoderWeights,
    ModelWeights,
    State,
    assemble_encoder,
    assemble_generator,
    expand_average,
)
from restyle.core.errors import CheckpointError, FatalError
from restyle.core.networks.config import (
    MODEL_FILE,
    Domain,
    EncoderFile,
    GeneratorFile,
    ModelConfig,
    checked_file,
    file_sha256,
    read_config,
)
from restyle.core.networks.generator import Generator

_AVERAGE_KEY = "latent_avg"
_GENERATOR_FILE = "generator.safetensors"


def convert(
    source: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    domain: str | None = None,
    noted: Callable[[str], object] = str,
) -> ModelConfig:
    """Turn a published ``.pt`` checkpoint into a model directory.

    Args:
        source: an encoder's checkpoint (it contains its generator).
        out_dir: a directory that does not exist yet.
        domain: what the model is for; None to go by the file.
        noted: is told why the model is taken to be for its domain.

    Returns:
        The ``model.json`` that was written.

    Raises:
        CheckpointError: the checkpoint cannot be used; nothing is written.
        SpecError: there is no such domain.
        FatalError: the directory exists or cannot be written.
    """
    path = Path(source)
    weights = published_weights(read_pickle(path), path, domain)
    try:
        config = save_model(weights, out_dir)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    noted(weights.domain_reason)
    return config


def load_generator(path: str | os.PathLike[str]) -> tuple[Generator, Tensor | None]:
    """Read the generator of a published generator file or encoder checkpoint.

    Args:
        path: ``{"g_ema", "latent_avg"}``, or an encoder's checkpoint.

    Returns:
        The generator, and its average latent as stored ([512] or [n_styles, 512]) if there is one.

    Raises:
        CheckpointError: the file cannot be used.
    """
    path = Path(path)
    content = read_pickle(path)
    if is_generator_file(content):
        state, average = generator_weights(content, path)
        generator = assemble_generator(state, str(path))
        if average is not None:
            expand_average(average, generator.config.n_styles, str(path))
        return generator, average
    weights = published_weights(content, path)
    encoder = weights.encoders[weights.default_encoder]
    return assemble_generator(weights.generator, str(path)), encoder.latent_avg


def save_model(
    weights: ModelWeights, out_dir: str | os.PathLike[str], *, half: bool = False
) -> ModelConfig:
    """Write a model directory: complete under its final name, or not at all.

    Args:
        weights: what to write; checked to fit together first.
        out_dir: a directory that does not exist yet.
        half: store float16, which is loaded as float32 again; averages stay float32.

    Returns:
        The ``model.json`` that was written.

    Raises:
        CheckpointError: the weights do not fit together.
        FatalError: the directory exists or cannot be written.
    """
    target = Path(out_dir)
    if target.exists():
        raise FatalError(f"{target} exists; choose another directory or remove it")
    generator = assemble_generator(weights.generator, "the model")
    iterative = {
        name: assemble_encoder(encoder, generator, f"encoder {name!r}").in_channels == 6
        for name, encoder in weights.encoders.items()
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}-", dir=target.parent, ignore_cleanup_errors=True
        ) as temporary:
            directory = Path(temporary) / target.name
            directory.mkdir()
            config = _write(weights, iterative, directory, half)
            directory.rename(target)
    except (OSError, SafetensorError) as error:
        raise FatalError(f"{target} cannot be written: {error}") from error
    return config


def _write(
    weights: ModelWeights, iterative: dict[str, bool], directory: Path, half: bool
) -> ModelConfig:
    generator = _save(weights.generator, directory / _GENERATOR_FILE, half)
    encoders = {}
    for name, encoder in weights.encoders.items():
        file = f"{name}.safetensors"
        digest = _save(encoder.state, directory / file, half, latent_avg=encoder.latent_avg)
        encoders[name] = EncoderFile(
            file=file, sha256=digest, kind=encoder.kind, iterative=iterative[name]
        )
    config = ModelConfig(
        # A domain that was read from a model directory is a whole config; its files are others.
        **weights.domain.model_dump(include=set(Domain.model_fields)),
        generator=GeneratorFile(file=_GENERATOR_FILE, sha256=generator),
        encoders=encoders,
        default_encoder=weights.default_encoder,
    )
    (directory / MODEL_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return config


def _save(state: State, path: Path, half: bool, latent_avg: Tensor | None = None) -> str:
    tensors = {key: _stored(tensor, half, key) for key, tensor in state.items()}
    if latent_avg is not None:
        tensors[_AVERAGE_KEY] = latent_avg.float().contiguous()
    # Not by save_file, whose files nobody else may read.
    path.write_bytes(save(tensors))
    return file_sha256(path)


def _stored(tensor: Tensor, half: bool, key: str) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not half or not tensor.is_floating_point():
        return tensor
    rounded = tensor.half()
    if not rounded.isfinite().all():
        raise CheckpointError(f"{key} holds values beyond float16; store the model in float32")
    return rounded


def read_model(directory: Path, encoder: str | None = None) -> tuple[ModelConfig, ModelWeights]:
    """Read a generator and one encoder from a model directory.

    Args:
        directory: holds ``model.json``.
        encoder: which one; the model's default when None.

    Returns:
        The whole config, and weights that hold that one encoder.

    Raises:
        CheckpointError: a file is missing or is not what its checksum says.
        SpecError: there is no such encoder.
    """
    config = read_config(directory)
    name = config.encoder_named(encoder)
    entry = config.encoders[name]
    generator = _load(directory, config.generator)
    state = _load(directory, entry)
    try:
        average = state.pop(_AVERAGE_KEY)
    except KeyError as error:
        raise CheckpointError(f"{directory / entry.file} has no {_AVERAGE_KEY}") from error
    weights = EncoderWeights(entry.kind, state, average)
    return config, ModelWeights(config, generator, {name: weights}, name)


def _load(directory: Path, entry: GeneratorFile | EncoderFile) -> dict[str, Tensor]:
    path = checked_file(directory, entry)
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}") from error
