"""Weights in memory, and strict loading of weights into networks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from restyle.core.errors import CheckpointError
from restyle.core.networks.config import AverageSamples, Domain, EncoderKind
from restyle.core.networks.encoders import AverageEncoder, Encoder, encoder_from_state
from restyle.core.networks.generator import Generator, GeneratorConfig

State = Mapping[str, Tensor]

AVERAGE = AverageSamples(samples=10_000, seed=0)
"""How the average latent is computed of a generator that comes without."""

# Number of keys that a message names before it counts the rest.
_NAMED_KEYS = 3

# A counter of training batches that is unused in evaluation and missing from old files.
_UNUSED_SUFFIX = ".num_batches_tracked"


@dataclass(frozen=True, eq=False)
class EncoderWeights:
    """Weights of one encoder.

    Attributes:
        kind: architecture of the encoder.
        state: weights by key, without prefix.
        latent_avg: average latent, [n_styles, style_dim] float32, from which refinement starts.
        computed_average: how it was computed; None if the checkpoint brought it.
    """

    kind: EncoderKind
    state: State
    latent_avg: Tensor
    computed_average: AverageSamples | None = None


@dataclass(frozen=True, eq=False)
class ModelWeights:
    """Weights of a generator and its encoders.

    Attributes:
        domain: domain of the model.
        generator: the generator's weights by key, without prefix.
        encoders: encoders by name.
        default_encoder: name of the encoder that is used by default.
        domain_reason: why this domain was inferred; empty if the model states its domain.
    """

    domain: Domain
    generator: State
    encoders: Mapping[str, EncoderWeights]
    default_encoder: str
    domain_reason: str = ""


def fit(network: nn.Module, state: State, where: str) -> None:
    """Load a state into a network strictly, without copying float32 tensors.

    Args:
        network: the network; it may be on the meta device.
        state: weights in any floating dtype; the parameters become float32.
        where: description of the weights and their file, for messages.

    Raises:
        CheckpointError: keys are missing, unexpected, of another shape or type, or have values that
            are not finite; the message names them.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith(_UNUSED_SUFFIX)]
    unexpected = [key for key in state if key not in wanted]
    reshaped = [
        f"{key} {list(state[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    retyped = [
        f"{key} {state[key].dtype}"
        for key, tensor in wanted.items()
        if key in state and state[key].is_floating_point() != tensor.is_floating_point()
    ]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:_NAMED_KEYS])}{', ...' * (len(keys) > _NAMED_KEYS)})"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", reshaped),
            ("of another type", retyped),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{where} does not fit {type(network).__name__}: {'; '.join(problems)}"
        )
    tensors = {
        key: _as_parameter(state[key]) if key in state else torch.zeros_like(tensor, device="cpu")
        for key, tensor in wanted.items()
    }
    _check_finite(tensors, where)
    network.load_state_dict(tensors, strict=True, assign=True)
    network.requires_grad_(False).eval()


def _check_finite(tensors: State, where: str) -> None:
    """Refuse NaN and infinite weights, which make every result NaN."""
    counts = {key: count for key, tensor in tensors.items() if (count := _not_finite(tensor))}
    if counts:
        named = ", ".join(
            f"{key} ({count} of {tensors[key].numel()})"
            for key, count in list(counts.items())[:_NAMED_KEYS]
        )
        more = f", and {len(counts) - _NAMED_KEYS} more tensors" * (len(counts) > _NAMED_KEYS)
        raise CheckpointError(
            f"{where} holds values that are not finite: {named}{more}; the file was damaged or "
            "its training diverged, use another copy or an earlier checkpoint"
        )


def _not_finite(tensor: Tensor) -> int:
    """Return the number of NaN and infinite values of a tensor."""
    if not tensor.is_floating_point() or not tensor.numel():
        return 0
    # Minimum and maximum reveal both without a mask of the tensor's size.
    if all(extreme.isfinite() for extreme in torch.aminmax(tensor)):
        return 0
    return int(tensor.numel() - tensor.isfinite().sum())


def _as_parameter(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def expand_average(latent_avg: Tensor, n_styles: int, where: str) -> Tensor:
    """Expand an average latent to one row per style.

    Args:
        latent_avg: average latent, [style_dim], [1, style_dim] or [n_styles, style_dim].
        n_styles: number of rows of the result.
        where: file of the latent, for messages.

    Returns:
        The average latent, [n_styles, style_dim] float32.

    Raises:
        CheckpointError: the shape is another one, or values are not finite.
    """
    rows = latent_avg.detach().float()
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2 or rows.shape[0] not in (1, n_styles):
        raise CheckpointError(
            f"{where}: latent_avg is {list(latent_avg.shape)}; the generator takes {n_styles} "
            "styles, so [style_dim] or one row for each is expected"
        )
    _check_finite({"latent_avg": rows}, where)
    return rows.expand(n_styles, -1).contiguous()


def average_latent(
    generator: Generator, found: Tensor | None, where: str
) -> tuple[Tensor, AverageSamples | None]:
    """The average latent of a generator; computed as in :data:`AVERAGE` if its file has none.

    Args:
        generator: on the CPU, in float32.
        found: average latent of its file, or None.
        where: file of the latent, for messages.

    Returns:
        The average latent, [n_styles, style_dim] float32, and how it was computed, or None.

    Raises:
        CheckpointError: the given one has another shape, or values are not finite.
    """
    computed = None
    if found is None:
        found, computed = generator.mean_latent(AVERAGE.samples, AVERAGE.seed), AVERAGE
    return expand_average(found, generator.config.n_styles, where), computed


def generator_shape(state: State, where: str) -> GeneratorConfig:
    """Derive a generator's config from its weights.

    Args:
        state: weights by key, without prefix.
        where: file of the weights, for messages.

    Raises:
        CheckpointError: the weights are not those of a generator.
    """
    with _shapes_of("generator", where):
        return GeneratorConfig.from_state(state)


def assemble_generator(state: State, where: str) -> Generator:
    """Build a generator from its weights; their shapes determine its config.

    Args:
        state: weights by key, without prefix.
        where: file of the weights, for messages.

    Raises:
        CheckpointError: the weights do not fit a generator.
    """
    config = generator_shape(state, where)
    with _shapes_of("generator", where), torch.device("meta"):
        generator = Generator(config)
    fit(generator, state, f"{where}: the generator")
    return generator


def assemble_encoder(weights: EncoderWeights, generator: Generator, where: str) -> Encoder:
    """Build an encoder from its weights; their shapes determine its config.

    Args:
        weights: weights of the encoder.
        generator: generator for which the encoder predicts latents.
        where: file of the weights, for messages.

    Raises:
        CheckpointError: the weights do not fit an encoder of this kind, or the generator.
    """
    encoder: Encoder
    if weights.kind is EncoderKind.AVERAGE:
        encoder = AverageEncoder(generator.config.n_styles, generator.config.style_dim)
    else:
        with _shapes_of(weights.kind, where):
            encoder = encoder_from_state(weights.kind, weights.state, generator.config.n_styles)
    fit(encoder, weights.state, f"{where}: the encoder")
    made, taken = (
        (encoder.n_styles, encoder.style_dim),
        (
            generator.config.n_styles,
            generator.config.style_dim,
        ),
    )
    if made != taken:
        raise CheckpointError(
            f"{where}: the encoder makes {made[0]} styles of {made[1]}, "
            f"the generator takes {taken[0]} of {taken[1]}"
        )
    if encoder.in_channels not in (3, 6):
        raise CheckpointError(
            f"{where}: the encoder takes {encoder.in_channels} channels; "
            "6 (image and reconstruction) or 3 (image) are possible"
        )
    expand_average(weights.latent_avg, encoder.n_styles, where)
    return encoder


@contextlib.contextmanager
def _shapes_of(what: str, where: str) -> Iterator[None]:
    """Convert errors of torch about invalid shapes to a CheckpointError."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    except (IndexError, ValueError, ZeroDivisionError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{where}: no {what} has weights of these shapes ({error})"
        ) from error
