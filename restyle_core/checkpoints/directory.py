"""Read and write the project's model format: a directory of safetensors and ``model.json``.

Safetensors files cannot contain code, and every file is checked against its checksum in
``model.json`` before use.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from restyle.core.checkpoints.weights import (
    EncoderWeights,
    ModelWeights,
    State,
    assemble_encoder,
    assemble_generator,
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

_AVERAGE_KEY = "latent_avg"
_GENERATOR_FILE = "generator.safetensors"


def save_model(
    weights: ModelWeights, out_dir: str | os.PathLike[str], *, half: bool = False
) -> ModelConfig:
    """Write a model directory atomically.

    Args:
        weights: the weights; their consistency is checked first.
        out_dir: path of a directory that does not exist yet.
        half: store float16, which loads as float32; average latents remain float32.

    Returns:
        The config that was written to ``model.json``.

    Raises:
        CheckpointError: the weights are inconsistent.
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
            file=file,
            sha256=digest,
            kind=encoder.kind,
            iterative=iterative[name],
            computed_average=encoder.computed_average,
        )
    config = ModelConfig(
        # A domain read from a model directory is a full ModelConfig; its file entries do not apply
        # here.
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
    # Not with save_file, which creates files that only their owner can read.
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
        directory: directory that contains ``model.json``.
        encoder: name of the encoder; None selects the model's default.

    Returns:
        The full config, and the weights of the generator and this encoder.

    Raises:
        CheckpointError: a file is missing or does not match its checksum.
        SpecError: the model has no such encoder.
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
    weights = EncoderWeights(entry.kind, state, average, entry.computed_average)
    return config, ModelWeights(config, generator, {name: weights}, name)


def _load(directory: Path, entry: GeneratorFile | EncoderFile) -> dict[str, Tensor]:
    path = checked_file(directory, entry)
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}") from error
