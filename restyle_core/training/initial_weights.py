"""Weights that an encoder's training starts from."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from restyle_core.checkpoints import read_model
from restyle_core.config import EncoderKind, find_model
from restyle_core.encoders import Encoder
from restyle_core.errors import SpecError
from restyle_core.model_weights import State, fit
from restyle_core.published import published_weights, read_pickle
from restyle_core.training.encoder_spec import EncoderSpec
from restyle_core.training.journal import Journal

_PROGRESSIVE = frozenset(
    {
        EncoderKind.PROGRESSIVE_BACKBONE,
        EncoderKind.RESNET_PROGRESSIVE_BACKBONE,
        EncoderKind.ENCODER4EDITING,
        EncoderKind.SMALL_PROGRESSIVE_BACKBONE,
    }
)


def start_from(encoder: Encoder, source: str) -> None:
    """Put the weights of a trained encoder into a new one.

    Weights for three channels fill the first three of six. Where independent heads become e4e's,
    the first predicts w0 and the differences start at zero.

    Args:
        encoder: gets the weights, in place.
        source: a model, an encoder's run, or a published checkpoint, as in the specification.

    Raises:
        CheckpointError: the weights do not fit; the message names the keys.
        SpecError: there is no such model or encoder, or the run trained something else.
    """
    kind, state = _read(source)
    state = {key: _widened(tensor, encoder.in_channels, key) for key, tensor in state.items()}
    fit(encoder, state, f"init: {source}")
    encoder.requires_grad_(True).train()
    if encoder.PROGRESSIVE and kind not in _PROGRESSIVE:
        with torch.no_grad():
            encoder.clear_differences()


def _read(source: str) -> tuple[EncoderKind, State]:
    run = Path(source)
    if (run / "checkpoint.pt").is_file():
        try:
            spec = EncoderSpec.model_validate_json((run / "spec.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise SpecError(f"init: {source} is no run of an encoder's training") from error
        return spec.kind, Journal.read_checkpoint(run / "checkpoint.pt")["average"]
    path, name = find_model(source)
    if path.is_dir():
        weights = read_model(path, name)[1]
    else:
        weights = published_weights(read_pickle(path), path)
    encoder = weights.encoders[weights.default_encoder]
    return encoder.kind, encoder.state


def _widened(tensor: Tensor, in_channels: int, key: str) -> Tensor:
    is_stem = key in ("stem.weight", "conv1.weight", "input_layer.0.weight")
    if is_stem and tensor.dim() == 4 and tensor.shape[1] == 3 < in_channels:
        return F.pad(tensor, (0, 0, 0, 0, 0, in_channels - 3))
    return tensor
