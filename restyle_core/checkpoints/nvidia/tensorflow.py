"""Generators of StyleGAN2 and StyleGAN2-ADA in TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from restyle.core.checkpoints.nvidia.arrays import Array
from restyle.core.checkpoints.nvidia.constructors import TensorFlowNetwork
from restyle.core.checkpoints.nvidia.layout import (
    FILTER,
    MAPPING_LR,
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

_PROGRAM = "StyleGAN2 (TensorFlow)"
_FIRST_VERSION = 4
"""Of networks with StyleGAN2's layers; earlier ones are of StyleGAN and its predecessors."""

_FIXED_OPTIONS: Mapping[str, tuple[object, ...]] = {
    "num_channels": (3,),
    "architecture": ("skip",),
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "normalize_latents": (True, 1),
    "resample_kernel": (list(FILTER), FILTER),
    "normalize_weights": (True, 1),
}
"""Options of the network whose other values this project's generator does not have."""


def convert_tensorflow(network: Any) -> NvidiaGenerator:
    """Convert a generator of StyleGAN2.

    Args:
        network: ``Gs`` of the pickle, the moving average of the generator.

    Raises:
        PickleRefusedError: it is another network, conditional, or cannot be converted exactly.
    """
    if not isinstance(network, TensorFlowNetwork):
        raise PickleRefusedError("holds no network")
    version = network.state.get("version")
    if not isinstance(version, int) or version < _FIRST_VERSION:
        raise PickleRefusedError(
            f"is of version {version}, from before StyleGAN2; encoders are for StyleGAN2"
        )
    options = network.state.get("static_kwargs")
    if not isinstance(options, dict):
        raise PickleRefusedError("does not say how its network is built")
    refuse_conditional(options.get("label_size"))
    for name, values in _FIXED_OPTIONS.items():
        given = options.get(name)
        require(given is None or given in values, f"{name} = {given!r}"[:100])
    weights = _Variables(network)
    if not weights.has("synthesis/4x4/Const/const") or not weights.has("synthesis/4x4/ToRGB/bias"):
        raise PickleRefusedError(
            "holds another network than StyleGAN2's of config e or f (configs a to d have other "
            "layers, discriminators too); they cannot be converted exactly"
        )
    state = {"input.input": weights["synthesis/4x4/Const/const"]}
    for block in blocks(options.get("resolution", 1024)):
        state |= _block(weights, block)
    layers = options.get("mapping_layers")
    lr = options.get("mapping_lrmul")
    for index in range(_MAPPING_LAYERS if layers is None else layers):
        weight, bias = weights[f"mapping/Dense{index}/weight"], f"mapping/Dense{index}/bias"
        state |= mapping_layer(index, weight.t(), weights[bias], MAPPING_LR if lr is None else lr)
    average = weights["dlatent_avg"] if weights.has("dlatent_avg") else None
    clamp = options.get("conv_clamp")
    return NvidiaGenerator(state, average, None if clamp is None else float(clamp), _PROGRAM)


_MAPPING_LAYERS = 8


class _Variables:
    """The variables of a generator and its two components."""

    def __init__(self, network: TensorFlowNetwork) -> None:
        self._arrays = dict(_own(network))
        components = network.state.get("components")
        if isinstance(components, dict):
            for name in ("mapping", "synthesis"):
                component = components.get(name)
                if isinstance(component, TensorFlowNetwork):
                    for key, array in _own(component):
                        self._arrays[f"{name}/{key}"] = array

    def has(self, name: str) -> bool:
        """Whether there is such a variable."""
        return name in self._arrays

    def __getitem__(self, name: str) -> Tensor:
        """A variable as float32."""
        array = self._arrays.get(name)
        if not isinstance(array, Array):
            raise PickleRefusedError(f"has no variable {name}")
        return array.tensor().float()


def _own(network: TensorFlowNetwork) -> list[tuple[str, Any]]:
    variables = network.state.get("variables")
    if not isinstance(variables, list):
        return []
    pairs = [pair for pair in variables if isinstance(pair, tuple) and len(pair) == 2]
    return [(name, value) for name, value in pairs if isinstance(name, str)]


def _block(weights: _Variables, index: int) -> dict[str, Tensor]:
    side = 4 << index
    at = f"synthesis/{side}x{side}"
    layers = {2 * index - 1: "Conv0_up", 2 * index: "Conv1"} if index else {0: "Conv"}
    state: dict[str, Tensor] = {}
    for layer, name in layers.items():
        # TensorFlow's upsampling is a convolution in the other direction than conv_transpose2d.
        convolution = _convolution(weights, f"{at}/{name}", flip=layer % 2 == 1)
        noise = Noise.none(side)
        if weights.has(f"synthesis/noise{layer}"):
            image = weights[f"synthesis/noise{layer}"].reshape(side, side)
            noise = Noise(weights[f"{at}/{name}/noise_strength"], image)
        state |= styled_convolution(layer, convolution, noise)
    return state | rgb_projection(index, _convolution(weights, f"{at}/ToRGB"))


def _convolution(weights: _Variables, at: str, *, flip: bool = False) -> Convolution:
    weight = weights[f"{at}/weight"].permute(3, 2, 0, 1)
    return Convolution(
        weight=(weight.flip(2, 3) if flip else weight).contiguous(),
        style_weight=weights[f"{at}/mod_weight"].t().contiguous(),
        style_bias=weights[f"{at}/mod_bias"] + 1,
        bias=weights[f"{at}/bias"],
    )
