"""Generators of StyleGAN2-ADA in PyTorch.

Karras et al., "Training Generative Adversarial Networks with Limited Data" (2006.06676). The
generator is that of StyleGAN2: its ``cifar``, ``auto``, ``paper256``, ... configurations differ in
channels, in the depth of the mapping network, and in float16 with a limit for activations.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from restyle.core.checkpoints.nvidia.arrays import Array, StoredTensor
from restyle.core.checkpoints.nvidia.constructors import PersistentObject
from restyle.core.checkpoints.nvidia.layout import (
    FILTER,
    Convolution,
    Noise,
    NvidiaGenerator,
    blocks,
    mapping_layer,
    refuse_conditional,
    require,
    rgb_projection,
    styled_convolution,
)
from restyle.core.checkpoints.nvidia.unpickler import PickleRefusedError

_PROGRAM = "StyleGAN2-ADA (PyTorch)"
_GAIN = math.sqrt(2)


class _Module:
    """A module of the pickle: its attributes, weights and children by name."""

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, PersistentObject):
            raise PickleRefusedError(f"has no network in {where}")
        self._state = content.state
        self.where = where
        self.class_name = content.class_name

    def has(self, name: str) -> bool:
        """Whether there is a child of this name."""
        return self._group("_modules").get(name) is not None

    def child(self, name: str) -> _Module:
        """A child."""
        return _Module(self._group("_modules").get(name), f"{self.where}.{name}")

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self._state.get(name, default)

    def number(self, name: str) -> float:
        """An attribute that is a number."""
        value = self._state.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PickleRefusedError(f"has no number {self.where}.{name}")
        return float(value)

    def find(self, name: str) -> Tensor | None:
        """A parameter or buffer as float32; None where there is none."""
        for group in ("_parameters", "_buffers"):
            found = self._group(group).get(name)
            if isinstance(found, StoredTensor | Array):
                return found.tensor().float()
        return None

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer as float32."""
        found = self.find(name)
        if found is None:
            raise PickleRefusedError(f"has no tensor {self.where}.{name}")
        return found

    def _group(self, name: str) -> dict[str, Any]:
        group = self._state.get(name)
        return group if isinstance(group, dict) else {}


def convert_pytorch(network: Any) -> NvidiaGenerator:
    """Convert a generator of StyleGAN2-ADA.

    Args:
        network: ``G_ema`` of the pickle.

    Raises:
        PickleRefusedError: it is another network, conditional, or cannot be converted exactly.
    """
    generator = _Module(network, "G_ema")
    refuse_conditional(generator.get("c_dim"))
    synthesis, mapping = generator.child("synthesis"), generator.child("mapping")
    if not synthesis.has("b4"):
        raise PickleRefusedError(
            "holds another network than StyleGAN2's (StyleGAN3 has other layers, for example); "
            "encoders of StyleGAN2 are for that of StyleGAN2"
        )
    channels = generator.get("img_channels", 3)
    require(channels == 3, f"images of {channels} channels")
    state: dict[str, Tensor] = {}
    limits: set[float] = set()
    for block in blocks(generator.get("img_resolution")):
        state |= _block(synthesis.child(f"b{4 << block}"), block, limits)
    state |= _mapping(mapping)
    average = mapping.find("w_avg")
    return NvidiaGenerator(state, average, min(limits, default=None), _PROGRAM)


def _block(block: _Module, index: int, limits: set[float]) -> dict[str, Tensor]:
    architecture = block.get("architecture", "skip")
    require(
        architecture == "skip" and not block.has("skip"),
        f"the architecture {architecture!r} in {block.where}",
    )
    side = 4 << index
    state = {}
    if index == 0:
        state["input.input"] = block.tensor("const")[None]
    else:
        state |= _layer(block.child("conv0"), 2 * index - 1, side, limits)
        _require_filter(block)
    state |= _layer(block.child("conv1"), 2 * index, side, limits)
    return state | rgb_projection(index, _convolution(block.child("torgb"), limits))


def _layer(layer: _Module, index: int, side: int, limits: set[float]) -> dict[str, Tensor]:
    activation = layer.get("activation", "lrelu")
    require(activation == "lrelu", f"the activation {activation!r} in {layer.where}")
    gain = layer.number("act_gain")
    require(math.isclose(gain, _GAIN, rel_tol=1e-6), f"the gain {gain:g} in {layer.where}")
    if index % 2:
        _require_filter(layer)
    noise = Noise.none(side)
    if layer.get("use_noise", True):
        noise = Noise(layer.tensor("noise_strength"), layer.tensor("noise_const"))
    return styled_convolution(index, _convolution(layer, limits), noise)


def _convolution(layer: _Module, limits: set[float]) -> Convolution:
    if layer.get("conv_clamp") is not None:
        limits.add(layer.number("conv_clamp"))
    affine = layer.child("affine")
    weight = affine.tensor("weight")
    # Only at a learning-rate multiplier of 1 is the affine layer this project's.
    lr = affine.number("bias_gain")
    require(lr == 1, f"the learning-rate multiplier {lr:g} in {affine.where}")
    return Convolution(
        weight=layer.tensor("weight"),
        style_weight=weight,
        style_bias=affine.tensor("bias"),
        bias=layer.tensor("bias"),
    )


def _mapping(mapping: _Module) -> dict[str, Tensor]:
    refuse_conditional(mapping.get("c_dim"))
    state: dict[str, Tensor] = {}
    for index in range(int(mapping.number("num_layers"))):
        layer = mapping.child(f"fc{index}")
        activation = layer.get("activation")
        require(activation == "lrelu", f"the activation {activation!r} in {layer.where}")
        weight, lr = layer.tensor("weight"), layer.number("bias_gain")
        state |= mapping_layer(index, weight, layer.tensor("bias"), lr)
    return state


def _require_filter(module: _Module) -> None:
    given = module.tensor("resample_filter")
    taps = torch.tensor(FILTER, dtype=torch.float32) / sum(FILTER)
    expected = torch.outer(taps, taps)
    fits = given.shape == expected.shape and torch.allclose(given, expected, atol=1e-6)
    require(fits, f"another filter than {list(FILTER)} in {module.where}")
