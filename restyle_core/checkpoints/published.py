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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restyle.core.checkpoints.domain_choice import DomainChoice, choose_domain
from restyle.core.checkpoints.foreign_files import foreign_kind
from restyle.core.checkpoints.weights import (
    EncoderWeights,
    ModelWeights,
    State,
    expand_average,
    generator_shape,
)
from restyle.core.errors import CheckpointError
from restyle.core.networks.config import Domain, EncoderKind

ENCODER_NAME = "published"
"""Name of the only encoder of a published checkpoint."""


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
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # For refused or unreadable files torch raises almost any exception: UnpicklingError,
        # RuntimeError, EOFError, KeyError, ... In each case the file is unusable.
        raise CheckpointError(_refusal(path, str(error))) from error


def _refusal(path: Path, reason: str) -> str:
    code = re.search(r"(?:GLOBAL|global:?) `?([\w.]+\.[\w.]+)`?", reason)
    if code:
        return (
            f"{path} asks for {code[1]} when opened, which could run code; only tensors and plain "
            "values are read: where you trust the file, open it and save the state_dict alone"
        )
    # Keep only the first sentence: torch appends advice on how to disable the protection.
    first = reason.strip().split("\n")[0].split(". ")[0]
    return (
        f"{path} is damaged or no PyTorch checkpoint ({first or 'it ends too early'}); download or "
        "copy it again"
    )


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
    state = _tensors(content.get("g_ema"), "g_ema", path)
    average = content.get("latent_avg")
    return state, average if isinstance(average, Tensor) else None


def published_weights(
    content: Mapping[str, Any], path: Path, domain: str | None = None
) -> ModelWeights:
    """Extract encoder, generator and average latent from an encoder checkpoint.

    Args:
        content: result of :func:`read_pickle`: ``{"state_dict", "opts", "latent_avg"}``; optimizer
            and discriminator of training files are ignored.
        path: path of the file, for messages; its stem becomes the model's name.
        domain: domain of the model; None infers it from the file.

    Raises:
        CheckpointError: a part is missing or contradicts another.
        SpecError: the domain is unknown.
    """
    if is_generator_file(content):
        raise CheckpointError(
            f"{path} is a generator without an encoder; give an encoder's checkpoint"
        )
    state = _tensors(content.get("state_dict"), "state_dict", path)
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for key, tensor in state.items():
        part, _, rest = key.partition(".")
        if part not in parts or not rest:
            raise CheckpointError(f"{path}: state_dict has the unexpected key {key}")
        parts[part][rest] = tensor
    options = _options(content, path)
    shape = generator_shape(parts["decoder"], str(path))
    size = options.get("output_size")
    if size is not None and size != shape.size:
        raise CheckpointError(
            f"{path}: opts.output_size is {size}, but the generator's weights make {shape.size}"
        )
    average = content.get("latent_avg")
    if not isinstance(average, Tensor):
        raise CheckpointError(
            f"{path} has no latent_avg, which refinement starts from: its program saved it without "
            "(start_from_latent_avg was off); put the latent_avg of the generator's own file into "
            "it, or the mean of what its mapping network makes of 100,000 random vectors"
        )
    kind = _kind(options, path)
    encoder = EncoderWeights(
        kind, parts["encoder"], expand_average(average, shape.n_styles, str(path))
    )
    choice = choose_domain(options, kind, shape.size, domain or "")
    return ModelWeights(
        _domain(choice, path),
        parts["decoder"],
        {ENCODER_NAME: encoder},
        ENCODER_NAME,
        choice.reason,
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
    try:
        return EncoderKind(str(name))
    except ValueError as error:
        known = ", ".join(kind.value for kind in EncoderKind)
        raise CheckpointError(
            f"{path}: opts.encoder_type is {name!r}; known are {known}"
        ) from error


def _domain(choice: DomainChoice, path: Path) -> Domain:
    preset = choice.preset
    return Domain(
        name=path.stem,
        domain=preset.name,
        image_size=preset.image_size,
        output_rows=preset.output_rows,
        align=preset.align,
        framing_scale=preset.framing_scale,
        framing_shift=preset.framing_shift,
    )
