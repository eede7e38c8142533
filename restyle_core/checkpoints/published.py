"""Read checkpoints in the format of the ReStyle, pSp and e4e authors: pickled ``.pt`` files.

A pickle can run code when it is opened. These files are read with torch's restricted unpickler,
which accepts tensors, plain values and ``argparse.Namespace``, in which some files store ``opts``.
"""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restyle.core.checkpoints.domain_choice import choose_domain
from restyle.core.checkpoints.foreign_files import foreign_kind
from restyle.core.checkpoints.weights import (
    EncoderWeights,
    ModelWeights,
    State,
    assemble_generator,
    average_latent,
    expand_average,
    generator_shape,
)
from restyle.core.domains import DomainPreset
from restyle.core.errors import CheckpointError, reason_of
from restyle.core.networks.config import Domain, EncoderKind
from restyle.core.networks.encoders import PROGRESSIVE

ENCODER_NAME = "published"
"""Name of the only encoder of a published checkpoint."""

_OTHER_NAMES = {"SingleStyleCodeEncoder": EncoderKind.INTO_W}


def read_pickle(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint safely onto the CPU, memory-mapped if its format allows it.

    Raises:
        CheckpointError: the file is missing or damaged, or its pickle imports other globals.
    """
    content = open_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not the dictionary of a checkpoint"
        )
    return content


def open_pickle(path: Path) -> Any:
    """Read the content of a ``.pt`` file of any type, as :func:`read_pickle` does.

    Raises:
        CheckpointError: the file is missing or damaged, or its pickle imports other globals.
    """
    try:
        if other := foreign_kind(path):
            raise CheckpointError(f"{path} is {other}")
        # Files from before torch 1.6 are bare pickles and cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            # Warnings about an unusual pickle protocol; a file that cannot be read raises an error
            # below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}") from error
    except Exception as error:
        # For refused or unreadable files torch raises almost any exception: UnpicklingError,
        # RuntimeError, EOFError, KeyError, ... In each case the file is unusable.
        raise CheckpointError(_refusal(path, error)) from error


def _refusal(path: Path, error: Exception) -> str:
    reason = str(error)
    code = re.search(r"(?:GLOBAL|global:?) `?([\w.]+\.[\w.]+)`?", reason)
    if code:
        return (
            f"{path} asks for {code[1]} when opened, which could run code; only tensors and plain "
            "values are read: where you trust the file, open it and save the state_dict alone"
        )
    # Of torch's own reasons the first sentence: advice on how to disable the protection follows.
    # Other exceptions are those of its parser, which say nothing about the file.
    first = reason.strip().split("\n")[0].split(". ")[0] if isinstance(error, RuntimeError) else ""
    why = "it ends too early" if isinstance(error, EOFError) else first
    shown = f" ({why})" if why else ""
    return f"{path} is damaged or no PyTorch checkpoint{shown}; download or copy it again"


def is_generator_file(content: Mapping[str, Any]) -> bool:
    """Return whether a file's content is that of a generator file, ``{"g_ema", "latent_avg"}``."""
    return "g_ema" in content


def generator_weights(content: Mapping[str, Any], path: Path) -> tuple[State, Tensor | None]:
    """Extract the generator from the content of a generator file.

    Args:
        content: result of :func:`read_pickle`; discriminator and optimizer are ignored.
        path: path of the file, for messages.

    Returns:
        The generator's weights, and the average latent or None.

    Raises:
        CheckpointError: the file contains no generator.
    """
    given = _tensors(content.get("g_ema"), "g_ema", path)
    state = {key.removeprefix("module."): tensor for key, tensor in given.items()}
    average = content.get("latent_avg")
    return state, average if isinstance(average, Tensor) else None


@dataclass(frozen=True, eq=False)
class PublishedEncoder:
    """The content of an encoder checkpoint.

    Attributes:
        kind: architecture of the encoder.
        state: its weights by key, without prefix.
        decoder: weights of its generator; empty if the file has none.
        latent_avg: average latent of the file, or None.
        absolute: whether the encoder predicts latents instead of differences to the average, as
            pSp's and e4e's do that were trained without ``start_from_latent_avg``.
        options: ``opts`` of the file.
    """

    kind: EncoderKind
    state: State
    decoder: State
    latent_avg: Tensor | None
    absolute: bool
    options: Mapping[str, Any]

    @property
    def size(self) -> object:
        """Width and height of its generator's images by the options; None if they do not say."""
        # encoder4editing has the other name.
        return self.options.get("output_size") or self.options.get("stylegan_size")


def published_encoder(content: Mapping[str, Any], path: Path) -> PublishedEncoder:
    """Extract the parts of an encoder checkpoint.

    Args:
        content: result of :func:`read_pickle`: ``{"state_dict", "opts", "latent_avg"}``; optimizer
            and discriminator of training files are ignored.
        path: path of the file, for messages.

    Raises:
        CheckpointError: a part is missing or invalid.
    """
    _refuse_other_generators(content, path)
    if is_generator_file(content):
        raise CheckpointError(
            f"{path} is a generator without an encoder; give an encoder's checkpoint, or attach "
            "one: `restyle convert` takes it as --encoder ENCODER"
        )
    parts = _parts(_tensors(content.get("state_dict"), "state_dict", path), path)
    if not parts["encoder"]:
        raise CheckpointError(f"{path} has no weights of an encoder in its state_dict")
    options = _options(content, path)
    average = content.get("latent_avg")
    if average is not None and not isinstance(average, Tensor):
        raise CheckpointError(f"{path}: latent_avg is no tensor but a {type(average).__name__}")
    return PublishedEncoder(
        _kind(options, path),
        parts["encoder"],
        parts["decoder"],
        average,
        absolute=_is_absolute(options, parts["encoder"]),
        options=options,
    )


def published_weights(
    content: Mapping[str, Any], path: Path, domain: str | None = None
) -> ModelWeights:
    """Extract encoder, generator and average latent from an encoder checkpoint.

    Args:
        content: as for :func:`published_encoder`.
        path: path of the file, for messages; its stem becomes the model's name.
        domain: domain of the model; None infers it from the file.

    Raises:
        CheckpointError: a part is missing or contradicts another.
        SpecError: the domain is unknown.
    """
    encoder = published_encoder(content, path)
    if not encoder.decoder:
        raise CheckpointError(
            f"{path} is an encoder without a generator; attach it to one: `restyle convert "
            f"GENERATOR OUT_DIR --encoder {path}`"
        )
    shape = generator_shape(encoder.decoder, str(path))
    if encoder.size is not None and encoder.size != shape.size:
        raise CheckpointError(
            f"{path}: opts.output_size is {encoder.size}, but the generator's weights make "
            f"{shape.size}"
        )
    return joined(encoder, encoder.decoder, path, domain)


def joined(
    encoder: PublishedEncoder,
    generator: State,
    path: Path,
    domain: str | None = None,
    latent_avg: Tensor | None = None,
) -> ModelWeights:
    """A model of a published encoder and a generator.

    Args:
        encoder: the encoder.
        generator: weights of the generator.
        path: path of the model's file, for messages; its stem becomes the model's name.
        domain: domain of the model; None infers it from the encoder's options.
        latent_avg: average latent of the generator, used if the encoder brings none.

    Raises:
        CheckpointError: the parts do not fit.
        SpecError: the domain is unknown.
    """
    shape = generator_shape(generator, str(path))
    found = latent_avg if encoder.latent_avg is None else encoder.latent_avg
    if found is None:
        # Only then are the mapping network's weights needed.
        average, computed = average_latent(
            assemble_generator(generator, str(path)), None, str(path)
        )
    else:
        average, computed = expand_average(found, shape.n_styles, str(path)), None
    state = encoder.state
    if encoder.absolute:
        state = less_average(encoder.kind, state, average)
    choice = choose_domain(encoder.options, encoder.kind, shape.size, domain or "")
    return ModelWeights(
        domain_settings(choice.preset, path.stem, shape.size),
        generator,
        {ENCODER_NAME: EncoderWeights(encoder.kind, state, average, computed)},
        ENCODER_NAME,
        choice.reason,
    )


def less_average(kind: EncoderKind, state: State, average: Tensor) -> State:
    """Make an encoder that predicts latents predict their differences to the average.

    The difference goes into the biases of its last layers, so that latents are the same.

    Args:
        kind: architecture of the encoder.
        state: its weights.
        average: [n_styles, style_dim].
    """
    changed = dict(state)
    if kind in (EncoderKind.INTO_W, EncoderKind.INTO_W_PLUS) and "linear.bias" in changed:
        rows = average[:1] if kind is EncoderKind.INTO_W else average
        changed["linear.bias"] = changed["linear.bias"].float() - rows.flatten()
    for style, row in enumerate(average):
        key = f"styles.{style}.linear.bias"
        if key in changed and not (kind in PROGRESSIVE and style):
            changed[key] = changed[key].float() - row
    return changed


def _is_absolute(options: Mapping[str, Any], state: State) -> bool:
    stem = state.get("input_layer.0.weight", state.get("conv1.weight"))
    single_pass = stem is not None and stem.ndim == 4 and stem.shape[1] == 3
    return single_pass and options.get("start_from_latent_avg") is False


def _parts(state: State, path: Path) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for key, tensor in state.items():
        # Training on several GPUs puts ``module.`` before the names.
        part, _, rest = key.removeprefix("module.").partition(".")
        rest = rest.removeprefix("module.")
        if part not in parts or not rest:
            raise CheckpointError(f"{path}: state_dict has the unexpected key {key}")
        parts[part][rest] = tensor
    return parts


def _refuse_other_generators(content: Mapping[str, Any], path: Path) -> None:
    """Refuse lucidrains' stylegan2-pytorch, a network of its own."""
    inner = content.get("GAN", content)
    if isinstance(inner, Mapping) and any(str(key).startswith("G.blocks.") for key in inner):
        raise CheckpointError(
            f"{path} is a generator of lucidrains' stylegan2-pytorch, which is another network: "
            "two modulated convolutions at 4x4, noise of its own for each channel, bilinear "
            "upsampling before convolutions. No weights of StyleGAN2 give its images, so it "
            "cannot be converted"
        )


def _tensors(value: Any, name: str, path: Path) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        known = "{'state_dict', 'opts', 'latent_avg'} or {'g_ema', 'latent_avg'}"
        raise CheckpointError(f"{path} has no {name}; a published file holds {known}")
    for key, tensor in value.items():
        # Tensor subclasses (distributed, nested, ...) and sparse layouts behave differently.
        plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
        if not plain:
            raise CheckpointError(f"{path}: {name} entry {key} is not a dense tensor")
    return dict(value)


def _options(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    options = content.get("opts")
    if isinstance(options, argparse.Namespace):
        return vars(options)
    if isinstance(options, Mapping):
        return options
    raise CheckpointError(f"{path} has no opts, which say what kind of encoder it is")


def _kind(options: Mapping[str, Any], path: Path) -> EncoderKind:
    name = options.get("encoder_type")
    # e4e has another name for pSp's encoder into W.
    name = _OTHER_NAMES.get(str(name), name)
    kinds = {kind.value: kind for kind in EncoderKind if kind is not EncoderKind.AVERAGE}
    if str(name) not in kinds:
        raise CheckpointError(
            f"{path}: opts.encoder_type is {name!r}; known are {', '.join(kinds)}"
        )
    return kinds[str(name)]


def domain_settings(preset: DomainPreset, name: str, size: int) -> Domain:
    """Settings of a model of a domain.

    Args:
        preset: of the domain.
        name: of the model.
        size: side of its generator's images in pixels.
    """
    return Domain(
        name=name,
        domain=preset.name,
        image_size=preset.image_size,
        output_rows=preset.rows_at(size),
        align=preset.align,
        framing_scale=preset.framing_scale,
        framing_shift=preset.framing_shift,
    )
