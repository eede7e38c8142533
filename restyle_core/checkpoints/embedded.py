"""Weights of the small networks that belong to the project: metrics and the face detector."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from restyle.core.errors import CheckpointError, reason_of

FOLDER = Path(__file__).parents[1] / "weights"
"""Folder of the embedded files."""

Network = TypeVar("Network", bound=nn.Module)


def load_embedded(network: type[Network], path: Path, what: str) -> Network:
    """Make a network and read its weights.

    Args:
        network: its class.
        path: safetensors with the keys of the network.
        what: the weights, for messages.

    Returns:
        The network on the CPU in float32; its parameters support autograd, also in inference mode.

    Raises:
        CheckpointError: the file is missing, damaged, or holds another network.
    """
    # Parameters created in inference mode can never be used outside of it.
    with torch.inference_mode(False):
        model = network()
        try:
            model.load_state_dict(load_file(path), strict=True)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{what} {path} cannot be read: {error}") from error
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not hold {what}: {reason_of(error)}") from error
    return model
