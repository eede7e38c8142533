"""Initial weights of an encoder's training."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from restyle.core.checkpoints.directory import read_model
from restyle.core.checkpoints.published import published_weights, read_pickle
from restyle.core.checkpoints.weights import State, fit
from restyle.core.errors import SpecError
from restyle.core.files import MOST_TOML, read_bytes
from restyle.core.networks.config import EncoderKind, find_model
from restyle.core.networks.encoders import PROGRESSIVE, Encoder
from restyle.core.training.encoders.spec import EncoderSpec
from restyle.core.training.journal import Journal


def start_from(encoder: Encoder, source: str) -> None:
    """Load trained weights of another encoder or of a backbone into a new encoder.

    Weights for three input channels fill the first three of six. When independent heads become
    e4e's, the first one predicts w0 and the differences start at zero. A backbone is an IR-SE50
    trained for face recognition, or torchvision's ResNet34; heads keep their initial values and
    the backbone's classifier is dropped.

    Args:
        encoder: updated in place.
        source: a model, an encoder's run, a published checkpoint, or a backbone's ``.pt`` file.

    Raises:
        CheckpointError: the weights do not fit; the message names the keys.
        SpecError: there is no such model or encoder, or the run trained something else.
    """
    kind, state = _read(source)
    if kind is None:
        state = _with_fresh_heads(state, encoder)
    state = {key: _widened(tensor, encoder.in_channels, key) for key, tensor in state.items()}
    fit(encoder, state, f"init: {source}")
    encoder.requires_grad_(True).train()
    if encoder.PROGRESSIVE and kind is not None and kind not in PROGRESSIVE:
        with torch.no_grad():
            encoder.clear_differences()


def _read(source: str) -> tuple[EncoderKind | None, State]:
    """Kind (None for a backbone) and weights."""
    run = Path(source)
    if (run / "checkpoint.pt").is_file():
        try:
            spec = EncoderSpec.model_validate_json(read_bytes(run / "spec.json", MOST_TOML))
        except (OSError, ValidationError) as error:
            raise SpecError(f"init: {source} is no run of an encoder's training") from error
        return spec.kind, Journal.read_checkpoint(run / "checkpoint.pt")["average"]
    path, name = find_model(source)
    if path.is_dir():
        weights = read_model(path, name)[1]
    else:
        content = read_pickle(path)
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return None, content
        weights = published_weights(content, path)
    encoder = weights.encoders[weights.default_encoder]
    return encoder.kind, encoder.state


def _with_fresh_heads(backbone: State, encoder: Encoder) -> State:
    # Torchvision's ResNet34 has no PReLU after its stem; ours keeps its initial value.
    fresh = ("styles.", "latlayer", "relu.")
    heads = {key: value for key, value in encoder.state_dict().items() if key.startswith(fresh)}
    body = {
        _our_key(key, backbone): value
        for key, value in backbone.items()
        if not key.startswith(("output_layer.", "fc."))
    }
    return heads | body


def _our_key(key: str, backbone: State) -> str:
    """``layer3.1.conv1.weight`` of torchvision -> ``body.8.conv1.weight``."""
    layer, _, rest = key.partition(".")
    if not (layer.startswith("layer") and layer[5:].isdigit()):
        return key
    block, _, rest = rest.partition(".")
    before = {
        (int(other[5]), other.split(".")[1])
        for other in backbone
        if other.startswith("layer") and other[5:6].isdigit() and int(other[5]) < int(layer[5:])
    }
    return f"body.{len(before) + int(block)}.{rest}"


def _widened(tensor: Tensor, in_channels: int, key: str) -> Tensor:
    is_stem = key in ("stem.weight", "conv1.weight", "input_layer.0.weight")
    if is_stem and tensor.dim() == 4 and tensor.shape[1] == 3 < in_channels:
        return F.pad(tensor, (0, 0, 0, 0, 0, in_channels - 3))
    return tensor
