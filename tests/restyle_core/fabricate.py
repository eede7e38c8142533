"""Checkpoints with the published keys and random weights, made without the project's networks.

Keys and shapes are written out here from the facts, so that a wrong key in the project is found.
Scales are chosen so that activations stay near one and five steps of refinement neither die out
nor run away.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WIDTHS = (64, 128, 256, 512)
IR_SE50 = (3, 4, 14, 3)
RESNET34 = (3, 4, 6, 3)

State = dict[str, Tensor]


class Fabricator:
    """Random tensors from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.source = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=self.source).mul_(std).add_(mean)

    def uniform(self, *shape: int, low: float, high: float) -> Tensor:
        return torch.rand(*shape, generator=self.source).mul_(high - low).add_(low)

    def batch_norm(self, channels: int) -> State:
        return {
            "weight": self.uniform(channels, low=0.6, high=1.4),
            "bias": self.normal(channels, std=0.1),
            "running_mean": self.normal(channels, std=0.1),
            "running_var": self.uniform(channels, low=0.6, high=1.4),
            "num_batches_tracked": torch.tensor(1000),
        }

    def conv(self, out: int, into: int, kernel: int, gain: float = 1.0) -> Tensor:
        return self.normal(out, into, kernel, kernel, std=gain / math.sqrt(into * kernel * kernel))

    def generator(
        self, size: int, *, style_dim: int = 512, mapping: int = 8, widths: tuple[int, ...] = ()
    ) -> State:
        """StyleGAN2 weights; widths from 4x4 up, the published ones when omitted."""
        log = int(math.log2(size))
        published = {64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
        widths = widths or tuple(published.get(2**p, 512) for p in range(2, log + 1))
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        fir = taps[:, None] * taps[None, :] / 64 * 4
        state = {}
        for layer in range(1, mapping + 1):
            state[f"style.{layer}.weight"] = self.normal(style_dim, style_dim, std=100.0)
            state[f"style.{layer}.bias"] = self.normal(style_dim, std=10.0)
        state["input.input"] = self.normal(1, widths[0], 4, 4)

        def styled(prefix: str, out: int, into: int, up: bool) -> None:
            state[f"{prefix}.conv.weight"] = self.normal(1, out, into, 3, 3)
            state[f"{prefix}.conv.modulation.weight"] = self.normal(into, style_dim, std=0.5)
            state[f"{prefix}.conv.modulation.bias"] = self.normal(into, std=0.1, mean=1.0)
            if up:
                state[f"{prefix}.conv.blur.kernel"] = fir.clone()
            state[f"{prefix}.noise.weight"] = self.normal(1, std=0.2)
            state[f"{prefix}.activate.bias"] = self.normal(out, std=0.1)

        def to_rgb(prefix: str, into: int, up: bool) -> None:
            state[f"{prefix}.conv.weight"] = self.normal(1, 3, into, 1, 1, std=0.25)
            state[f"{prefix}.conv.modulation.weight"] = self.normal(into, style_dim, std=0.5)
            state[f"{prefix}.conv.modulation.bias"] = self.normal(into, std=0.1, mean=1.0)
            state[f"{prefix}.bias"] = self.normal(1, 3, 1, 1, std=0.1)
            if up:
                state[f"{prefix}.upsample.kernel"] = fir.clone()

        styled("conv1", widths[0], widths[0], up=False)
        to_rgb("to_rgb1", widths[0], up=False)
        for block in range(log - 2):
            styled(f"convs.{2 * block}", widths[block + 1], widths[block], up=True)
            styled(f"convs.{2 * block + 1}", widths[block + 1], widths[block + 1], up=False)
            to_rgb(f"to_rgbs.{block}", widths[block + 1], up=True)
        for index in range(2 * log - 3):
            side = 2 ** ((index + 5) // 2)
            state[f"noises.noise_{index}"] = self.normal(1, 1, side, side)
        return state

    def ir_se50(self, in_channels: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> State:
        state: State = {}

        def put(prefix: str, values: State) -> None:
            state.update({f"{prefix}.{key}": value for key, value in values.items()})

        state["input_layer.0.weight"] = self.conv(widths[0], in_channels, 3)
        put("input_layer.1", self.batch_norm(widths[0]))
        state["input_layer.2.weight"] = self.uniform(widths[0], low=0.1, high=0.4)
        channels, unit = widths[0], 0
        for width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                at = f"body.{unit}"
                if channels != width:
                    state[f"{at}.shortcut_layer.0.weight"] = self.conv(width, channels, 1)
                    put(f"{at}.shortcut_layer.1", self.batch_norm(width))
                put(f"{at}.res_layer.0", self.batch_norm(channels))
                state[f"{at}.res_layer.1.weight"] = self.conv(width, channels, 3)
                state[f"{at}.res_layer.2.weight"] = self.uniform(width, low=0.1, high=0.4)
                state[f"{at}.res_layer.3.weight"] = self.conv(width, width, 3)
                put(f"{at}.res_layer.4", self.batch_norm(width))
                state[f"{at}.res_layer.5.fc1.weight"] = self.conv(width // 16, width, 1, 3.0)
                state[f"{at}.res_layer.5.fc2.weight"] = self.conv(width, width // 16, 1, 3.0)
                channels, unit = width, unit + 1
        return state

    def resnet34(self, in_channels: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> State:
        state: State = {}

        def put(prefix: str, values: State) -> None:
            state.update({f"{prefix}.{key}": value for key, value in values.items()})

        state["conv1.weight"] = self.conv(widths[0], in_channels, 7)
        put("bn1", self.batch_norm(widths[0]))
        state["relu.weight"] = self.uniform(widths[0], low=0.1, high=0.4)
        channels, unit = widths[0], 0
        for width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                at = f"body.{unit}"
                state[f"{at}.conv1.weight"] = self.conv(width, channels, 3)
                put(f"{at}.bn1", self.batch_norm(width))
                state[f"{at}.conv2.weight"] = self.conv(width, width, 3, 0.5)
                put(f"{at}.bn2", self.batch_norm(width))
                if channels != width:
                    state[f"{at}.downsample.0.weight"] = self.conv(width, channels, 1)
                    put(f"{at}.downsample.1", self.batch_norm(width))
                channels, unit = width, unit + 1
        return state

    def heads(self, n_styles: int, channels: int, style_dim: int, pyramid: bool) -> State:
        state = {}
        # The backbone's activations grow with its depth; the published one has four times the
        # units of the tiny one.
        gain = 0.25 if style_dim < 512 else 0.02
        for style in range(n_styles):
            count = 4
            if pyramid:
                count = 4 if style < 3 else 5 if style < 7 else 6
            for index in range(count):
                into = channels if index == 0 else style_dim
                at = f"styles.{style}.convs.{2 * index}"
                state[f"{at}.weight"] = self.conv(style_dim, into, 3, math.sqrt(2))
                state[f"{at}.bias"] = self.normal(style_dim, std=0.05)
            state[f"styles.{style}.linear.weight"] = self.normal(style_dim, style_dim, std=gain)
            state[f"styles.{style}.linear.bias"] = self.normal(style_dim, std=0.05)
        return state

    def last_layer(self, kind: str, n_styles: int, channels: int, style_dim: int) -> State:
        """pSp's heads on the last map, into W or W+."""
        if kind.endswith("IntoW"):
            return {
                "linear.weight": self.normal(style_dim, channels, std=0.3),
                "linear.bias": self.normal(style_dim, std=0.05),
            }
        state = {f"output_layer_2.0.{k}": v for k, v in self.batch_norm(channels).items()}
        area = channels * 7 * 7
        state["output_layer_2.3.weight"] = self.normal(style_dim, area, std=1 / math.sqrt(area))
        state["output_layer_2.3.bias"] = self.normal(style_dim, std=0.05)
        state["linear.weight"] = self.normal(n_styles * style_dim, style_dim, std=0.3)
        state["linear.bias"] = self.normal(n_styles * style_dim, std=0.05)
        return state

    def encoder(
        self,
        kind: str,
        n_styles: int,
        *,
        in_channels: int = 6,
        style_dim: int = 512,
        widths: tuple[int, ...] = WIDTHS,
        depths: tuple[int, ...] | None = None,
    ) -> State:
        """Weights of any published encoder."""
        resnet = kind.startswith("ResNet")
        backbone = self.resnet34 if resnet else self.ir_se50
        state = backbone(in_channels, widths, depths or (RESNET34 if resnet else IR_SE50))
        if "LastLayer" in kind:
            return state | self.last_layer(kind, n_styles, widths[-1], style_dim)
        pyramid = "Gradual" in kind or kind == "Encoder4Editing"
        state.update(self.heads(n_styles, widths[-1], style_dim, pyramid))
        if pyramid:
            for name, into in (("latlayer1", widths[2]), ("latlayer2", widths[1])):
                state[f"{name}.weight"] = self.conv(widths[-1], into, 1)
                state[f"{name}.bias"] = self.normal(widths[-1], std=0.05)
        return state


TINY: dict[str, Any] = {"style_dim": 32, "widths": (16, 32, 48, 64), "depths": (1, 2, 2, 1)}
"""An encoder small enough for quick tests, with the published keys."""


def checkpoint(
    kind: str,
    size: int,
    *,
    tiny: bool = True,
    in_channels: int = 6,
    dataset: str = "ffhq_encode",
    seed: int = 0,
) -> dict[str, Any]:
    """What ``torch.load`` gives for a published encoder checkpoint."""
    make = Fabricator(seed)
    n_styles = 2 * int(math.log2(size)) - 2
    if tiny:
        widths = tuple(max(8, 64 >> level) for level in range(n_styles // 2))
        decoder = make.generator(size, style_dim=32, mapping=2, widths=widths)
        encoder = make.encoder(kind, n_styles, in_channels=in_channels, **TINY)
    else:
        decoder = make.generator(size)
        encoder = make.encoder(kind, n_styles, in_channels=in_channels)
    state = {f"encoder.{key}": value for key, value in encoder.items()}
    state.update({f"decoder.{key}": value for key, value in decoder.items()})
    return {
        "state_dict": state,
        "opts": {
            "encoder_type": kind,
            "output_size": size,
            "dataset_type": dataset,
            "input_nc": in_channels,
            "n_iters_per_batch": 5,
            "device": "cuda:0",
        },
        "latent_avg": make.normal(n_styles, 32 if tiny else 512, std=0.5),
    }


def save(content: dict[str, Any], path: Path) -> Path:
    torch.save(content, path)
    return path
