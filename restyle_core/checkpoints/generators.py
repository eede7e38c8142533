"""Read a generator from any file that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from restyle.core.checkpoints.foreign_files import is_network_pickle
from restyle.core.checkpoints.nvidia.pickles import read_network_pickle
from restyle.core.checkpoints.published import (
    generator_weights,
    is_generator_file,
    published_encoder,
    read_pickle,
)
from restyle.core.checkpoints.weights import State


@dataclass(frozen=True, eq=False)
class FoundGenerator:
    """A generator that was read from a file.

    Attributes:
        state: weights by key.
        latent_avg: average latent, [style_dim] or [n_styles, style_dim]; None if the file has none.
        found: what the file is, for a person.
        clamp: limit of the magnitude of activations, which is not applied here; None without one.
    """

    state: State
    latent_avg: Tensor | None
    found: str
    clamp: float | None = None


def read_generator(path: Path) -> FoundGenerator:
    """Read the generator of a network pickle, a generator file or an encoder's checkpoint.

    Raises:
        CheckpointError: the file is unusable, or its generator cannot be converted exactly.
    """
    if is_network_pickle(path):
        network = read_network_pickle(path)
        found = f"a network pickle of {network.program}"
        return FoundGenerator(network.state, network.latent_avg, found, network.clamp)
    content: Mapping[str, Any] = read_pickle(path)
    if is_generator_file(content):
        state, average = generator_weights(content, path)
        return FoundGenerator(state, average, "a generator in rosinality's layout")
    encoder = published_encoder(content, path)
    return FoundGenerator(
        encoder.decoder, encoder.latent_avg, f"the generator of a {encoder.kind} checkpoint"
    )
