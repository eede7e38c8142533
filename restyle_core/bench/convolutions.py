"""Lower bounds for the time of a network from its convolutions alone.

The looser bound divides operations by the highest measured rate, and on a GPU takes for each layer
the time of its memory traffic if that is larger. The tighter bound adds up the measured times of
the single layers, each in the fastest of several formulations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.bench import on_gpu
from restyle.core.bench.timing import Clock, timed
from restyle.core.networks.config import EncoderKind
from restyle.core.networks.convolution import Convolution, Geometry, Target
from restyle.core.networks.encoders import encoder_from_state
from restyle.core.networks.generator import GeneratorConfig

# Channels and side of layers that saturate a processor.
_BUSY = ((128, 64), (256, 32), (256, 64), (512, 32))


@dataclass(frozen=True)
class Layer:
    """A convolution of a network.

    Attributes:
        into: input channels.
        out: output channels.
        kernel: side of its kernel.
        stride: of the convolution.
        size: height and width of the input.
        doubles: whether it is a transposed convolution that doubles the size.
    """

    into: int
    out: int
    kernel: int
    stride: int
    size: tuple[int, int]
    doubles: bool = False

    @property
    def flops(self) -> int:
        """Floating-point operations for one image, two for each multiply-add."""
        height, width = (-(-side // self.stride) for side in self.size)
        return 2 * self.into * self.out * self.kernel**2 * height * width

    def bytes(self, itemsize: int, batch: int) -> float:
        """Memory traffic in bytes for one image of a batch, which shares the weights."""
        inside = self.into * self.size[0] * self.size[1]
        height, width = (
            2 * side + 1 if self.doubles else -(-side // self.stride) for side in self.size
        )
        weights = self.into * self.out * self.kernel**2
        return itemsize * (inside + self.out * height * width + weights / batch)


@dataclass(frozen=True)
class Rates:
    """Peak rates of a machine.

    Attributes:
        flops: operations per second.
        bytes: memory traffic per second; None to ignore it.
    """

    flops: float
    bytes: float | None = None

    def floor(self, layers: Iterable[Layer], itemsize: int, batch: int) -> float:
        """Lower bound for the seconds of layers for one image."""
        return sum(
            max(
                layer.flops / self.flops,
                layer.bytes(itemsize, batch) / self.bytes if self.bytes else 0.0,
            )
            for layer in layers
        )


def generator_layers(config: GeneratorConfig) -> list[Layer]:
    """The convolutions of a generator, in order."""
    layers = [Layer(config.widths[0], config.widths[0], 3, 1, (4, 4))]
    layers.append(Layer(config.widths[0], 3, 1, 1, (4, 4)))
    for level, wide in enumerate(config.widths[1:]):
        narrow, side = config.widths[level], 4 << level
        double = (2 * side, 2 * side)
        layers.append(Layer(narrow, wide, 3, 1, (side, side), doubles=True))
        layers.append(Layer(wide, wide, 3, 1, double))
        layers.append(Layer(wide, 3, 1, 1, double))
    return layers


def encoder_layers(
    kind: EncoderKind, state: Mapping[str, Tensor], size: tuple[int, int]
) -> list[Layer]:
    """The convolutions of an encoder.

    Args:
        kind: the architecture.
        state: the weights, whose shapes are read.
        size: height and width of the input.
    """
    encoder = encoder_from_state(kind, state)
    layers: list[Layer] = []

    def note(conv: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        if isinstance(conv, nn.Conv2d):
            height, width = inputs[0].shape[-2:]
            layers.append(
                Layer(
                    conv.in_channels,
                    conv.out_channels,
                    conv.kernel_size[0],
                    conv.stride[0],
                    (height, width),
                )
            )

    for module in encoder.modules():
        module.register_forward_hook(note)
    encoder.eval()(torch.empty(1, encoder.in_channels, *size, device="meta"))
    return layers


def bare_seconds(
    layers: list[Layer], target: Target, batch: int, repeats: int, clock: Clock
) -> float:
    """Seconds per image of the single layers, each in its fastest formulation."""
    ways = {layer: list(_formulations(layer, target, batch)) for layer in set(layers)}
    if target.device.type == "cuda":
        return on_gpu.bare_seconds([ways[layer] for layer in layers], repeats, clock) / batch
    alone = {
        layer: min(timed(call, repeats, clock).median for call in calls)
        for layer, calls in ways.items()
    }
    return sum(alone[layer] for layer in layers) / batch


def peak_rates(target: Target, repeats: int, clock: Clock) -> Rates:
    """Peak rates: of a large matrix product and a copy on a GPU, of convolutions on a CPU."""
    if target.device.type == "cuda":
        return Rates(
            on_gpu.product_rate(target.device, target.dtype, repeats, clock),
            on_gpu.copy_rate(target.device, repeats, clock),
        )
    rates = []
    for channels, side in _BUSY:
        layer = Layer(channels, channels, 3, 1, (side, side))
        for call in _formulations(layer, target, batch=1):
            seconds = timed(call, repeats, clock).median
            rates.append(layer.flops / seconds)
    return Rates(max(rates))


def _formulations(layer: Layer, target: Target, batch: int) -> Iterator[Callable[[], object]]:
    x = target.put(torch.randn(batch, layer.into, *layer.size))
    x = x.contiguous(memory_format=torch.channels_last)
    if layer.doubles:
        yield from _doubling(layer, x, target)
        return
    weight = torch.randn(layer.out, layer.into, layer.kernel, layer.kernel)
    geometry = Geometry(layer.stride, (layer.kernel - 1) // 2)
    plain = target.put(weight).contiguous(memory_format=torch.channels_last)
    yield lambda: F.conv2d(x, plain, None, geometry.stride, geometry.padding)
    ready = Convolution(weight, None, geometry, target)
    yield lambda: ready(x)


def _doubling(layer: Layer, x: Tensor, target: Target) -> Iterator[Callable[[], object]]:
    """One transposed convolution; one convolution for all four phases; one for each phase."""

    def conv(out: int, height: int, width: int) -> Convolution:
        weight = torch.randn(out, layer.into, height, width)
        return Convolution(weight, None, Geometry(padding=(height - 1) // 2), target)

    transposed = target.put(torch.randn(layer.into, layer.out, 3, 3))
    yield lambda: F.conv_transpose2d(x, transposed, stride=2)
    together = conv(4 * layer.out, 3, 3)
    yield lambda: together(x)
    phases = [conv(layer.out, height, width) for height in (2, 1) for width in (2, 1)]
    yield lambda: [phase(x) for phase in phases]
