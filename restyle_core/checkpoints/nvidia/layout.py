"""Layers of a StyleGAN2 generator under the keys of this project's.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (1912.04958). The weights of
all implementations are the same numbers in other layouts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from restyle.core.checkpoints.nvidia.unpickler import PickleRefusedError

FILTER = (1, 3, 3, 1)
"""The FIR filter of all published networks, of which this project's generator knows no other."""

MAPPING_LR = 0.01
"""Learning-rate multiplier of the mapping network in this project's generator."""


@dataclass(frozen=True, eq=False)
class NvidiaGenerator:
    """A generator that was read from a network pickle.

    Attributes:
        state: weights under this project's keys.
        latent_avg: [style_dim] average latent that training tracked; None without one.
        clamp: largest magnitude that activations are limited to, which this project's generator
            does not do; None without a limit.
        program: the program that wrote the pickle.
    """

    state: dict[str, Tensor]
    latent_avg: Tensor | None
    clamp: float | None
    program: str


@dataclass(frozen=True, eq=False)
class Convolution:
    """A modulated convolution.

    Attributes:
        weight: [out, in, k, k], as for ``conv2d``, or ``conv_transpose2d`` of an upsampling one.
        style_weight: [in, style_dim] of the affine layer from w.
        style_bias: [in].
        bias: [out].
    """

    weight: Tensor
    style_weight: Tensor
    style_bias: Tensor
    bias: Tensor

    def entries(self, key: str) -> Iterator[tuple[str, Tensor]]:
        """Weight and modulation under a key."""
        yield f"{key}.conv.weight", self.weight[None]
        yield f"{key}.conv.modulation.weight", self.style_weight
        yield f"{key}.conv.modulation.bias", self.style_bias


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of a convolution.

    Attributes:
        strength: its factor, of one element.
        image: [side, side], the noise that is not random.
    """

    strength: Tensor
    image: Tensor

    @classmethod
    def none(cls, side: int) -> Noise:
        """That of a network without noise."""
        return cls(torch.zeros(()), torch.zeros(side, side))


def styled_convolution(layer: int, convolution: Convolution, noise: Noise) -> dict[str, Tensor]:
    """Entries of a convolution with noise and activation.

    Args:
        layer: 0 for the one at 4x4, then two for each resolution, of which the odd ones upsample.
        convolution: its weights.
        noise: its noise.
    """
    key = f"convs.{layer - 1}" if layer else "conv1"
    state = dict(convolution.entries(key))
    if layer % 2:
        state[f"{key}.conv.blur.kernel"] = _kernel()
    state[f"{key}.noise.weight"] = noise.strength.reshape(1)
    state[f"{key}.activate.bias"] = convolution.bias
    state[f"noises.noise_{layer}"] = noise.image[None, None]
    return state


def rgb_projection(block: int, convolution: Convolution) -> dict[str, Tensor]:
    """Entries of a projection to RGB; ``block`` is 0 at 4x4."""
    key = f"to_rgbs.{block - 1}" if block else "to_rgb1"
    state = dict(convolution.entries(key))
    state[f"{key}.bias"] = convolution.bias.reshape(1, -1, 1, 1)
    if block:
        state[f"{key}.upsample.kernel"] = _kernel()
    return state


def mapping_layer(layer: int, weight: Tensor, bias: Tensor, lr: float) -> dict[str, Tensor]:
    """Entries of a layer of the mapping network.

    Args:
        layer: from 0 on.
        weight: [out, in], to be multiplied by ``lr / sqrt(in)``.
        bias: [out], to be multiplied by ``lr``.
        lr: learning-rate multiplier.
    """
    factor = 1.0 if math.isclose(lr, MAPPING_LR, rel_tol=1e-6) else lr / MAPPING_LR
    return {f"style.{layer + 1}.weight": weight * factor, f"style.{layer + 1}.bias": bias * factor}


def blocks(size: object) -> range:
    """Blocks of a generator, of which each doubles the side from 4 on.

    Raises:
        PickleRefusedError: no image has this size.
    """
    # The largest power is a bound for files that nobody trusts.
    sides = [2**power for power in range(3, 13)]
    if size not in sides:
        raise PickleRefusedError(f"makes images of {size} pixels; powers of two are expected")
    return range(sides.index(size) + 2)


def refuse_conditional(classes: object) -> None:
    """Refuse a generator of images of a class that is asked for.

    Raises:
        PickleRefusedError: there are classes.
    """
    if classes:
        raise PickleRefusedError(
            f"is conditional (of {classes} labels): its latents depend on a label, which encoders "
            "do not know; give an unconditional generator"
        )


def require(fits: bool, what: str) -> None:
    """Refuse a network with a part that this project's generator does not have.

    Raises:
        PickleRefusedError: it does not fit.
    """
    if not fits:
        raise PickleRefusedError(
            f"has {what}, which the generator of StyleGAN2's published models does not have; such "
            "a network cannot be converted exactly"
        )


def _kernel() -> Tensor:
    taps = torch.tensor(FILTER, dtype=torch.float32)
    return torch.outer(taps, taps) * 4 / taps.sum() ** 2
