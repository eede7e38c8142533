"""The StyleGAN2 generator, in the key layout of the published ReStyle checkpoints.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (1912.04958). Depth and
widths are read from the weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from restyle.core.errors import CheckpointError
from restyle.core.networks.start_values import noise
from restyle.kernels import operators as ops
from restyle.kernels import reference
from restyle.kernels.choice import Impl

Fixed = Callable[[Tensor], Tensor]
"""A convolution with fixed weights, differentiable in its input."""

_BLUR = (1.0, 3.0, 3.0, 1.0)
_MAPPING_LR = 0.01


@dataclass(frozen=True)
class GeneratorConfig:
    """The shape of a generator.

    Attributes:
        widths: channels of each resolution from 4x4 up; their number determines the image size.
        style_dim: length of a style vector.
        z_dim: length of the mapping network's input.
        mapping_layers: depth of the mapping network.
    """

    widths: tuple[int, ...]
    style_dim: int = 512
    z_dim: int = 512
    mapping_layers: int = 8

    @property
    def size(self) -> int:
        """Side of the generated images in pixels."""
        return int(2 ** (len(self.widths) + 1))

    @property
    def n_styles(self) -> int:
        """Style vectors per image: ``2 log2(size) - 2``."""
        return 2 * len(self.widths)

    @classmethod
    def published(cls, size: int, channel_multiplier: int = 2) -> GeneratorConfig:
        """The published shapes: 512 channels up to 64x64, then halved at each doubling.

        Args:
            size: image side, a power of two from 32 to 1024.
            channel_multiplier: 2 for the published checkpoints, 1 for half of the channels
                above 32x32.
        """
        widths = [
            min(512, 256 * channel_multiplier * 64 // side)
            for side in (2**power for power in range(2, int(math.log2(size)) + 1))
        ]
        return cls(tuple(widths))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> GeneratorConfig:
        """Read the shape from weights.

        Raises:
            CheckpointError: keys that every generator has are missing.
        """
        try:
            widths = [state["input.input"].shape[1]]
            while (key := f"convs.{2 * len(widths) - 1}.conv.weight") in state:
                widths.append(state[key].shape[1])
            mapping_layers = 0
            while f"style.{mapping_layers + 1}.weight" in state:
                mapping_layers += 1
            return cls(
                tuple(widths),
                style_dim=state["conv1.conv.modulation.weight"].shape[1],
                z_dim=state["style.1.weight"].shape[1],
                mapping_layers=mapping_layers,
            )
        except KeyError as error:
            raise CheckpointError(
                f"these weights are no StyleGAN2 generator: the key {error} is missing"
            ) from error


class EqualizedLinear(nn.Module):
    """Linear layer with equalized learning rate: weight / sqrt(in) * lr, bias * lr."""

    def __init__(
        self, in_features: int, out_features: int, bias_init: float = 0.0, lr: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(noise(out_features, in_features, std=1 / lr))
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr))
        self.lr = lr
        self.scale = lr / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in] -> [B, out]."""
        return torch.addmm(self.bias * self.lr, x, self.weight.t() * self.scale)


class PixelNorm(nn.Module):
    """Normalise each row to a mean square of 1."""

    def forward(self, z: Tensor) -> Tensor:
        """[B, n] -> [B, n]."""
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class MappingLayer(EqualizedLinear):
    """One layer of the mapping network: linear, leaky ReLU, gain."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, lr=_MAPPING_LR)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in] -> [B, out]."""
        return reference.leaky_relu_gain(super().forward(x))


class _Filter(nn.Module):
    """Owner of a FIR kernel, for the key in checkpoints."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        total = sum(_BLUR) ** 2
        kernel = torch.tensor([[4 * a * b / total for a in _BLUR] for b in _BLUR])
        self.register_buffer("kernel", kernel)


class ModulatedConv(nn.Module):
    """Weight and modulation of one convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, style_dim: int, *, up: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(noise(1, out_channels, in_channels, kernel, kernel))
        self.modulation = EqualizedLinear(style_dim, in_channels, bias_init=1.0)
        self.blur = _Filter() if up else None
        self.scale = 1.0 / math.sqrt(in_channels * kernel * kernel)

    @property
    def scaled_weight(self) -> Tensor:
        """[out, in, k, k] weight at its equalized scale."""
        return self.weight[0] * self.scale


class _Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class _Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and activation; ``up`` doubles the size."""

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, *, up: bool = False
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, out_channels, 3, style_dim, up=up)
        self.noise = _Noise()
        self.activate = _Bias(out_channels)

    def forward(
        self,
        x: Tensor,
        latent: Tensor,
        noise: Tensor,
        impl: Impl = "auto",
        fixed: Fixed | None = None,
    ) -> Tensor:
        """[B, in, H, W], [B, style_dim], [1 or B, 1, H', W'] -> [B, out, H', W'].

        With ``fixed``, a form of the weight's convolution, the weight has no gradient.
        """
        style = self.conv.modulation(latent)
        weight = self.conv.scaled_weight
        if fixed is not None:
            y = fixed(x * style.to(x.dtype)[:, :, None, None])
            if self.conv.blur is not None:
                y = ops.upfirdn2d(y, self.conv.blur.kernel, padding=(1, 1, 1, 1), impl=impl)
        elif self.conv.blur is None:
            y = reference.modulated_conv2d(x, weight, style)
        else:
            y = ops.modulated_upconv2d(x, weight, style, self.conv.blur.kernel, impl=impl)
        return ops.noise_bias_act(
            y,
            reference.demodulation(weight, style),
            noise,
            self.noise.weight,
            self.activate.bias,
            impl=impl,
        )


class ToRGB(nn.Module):
    """Modulated projection to RGB, added to the upsampled image of the lower resolution."""

    def __init__(self, in_channels: int, style_dim: int, *, up: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, 3, 1, style_dim)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = _Filter() if up else None

    def forward(
        self, x: Tensor, latent: Tensor, skip: Tensor | None = None, impl: Impl = "auto"
    ) -> Tensor:
        """[B, in, H, W], [B, style_dim], [B, 3, H/2, W/2] -> [B, 3, H, W]."""
        style = self.conv.modulation(latent)
        weight = self.conv.scaled_weight[:, :, 0, 0]
        rgb = reference.modulated_rgb(x, weight, style, self.bias.flatten())
        if skip is None or self.upsample is None:
            return rgb
        return rgb + ops.upsample2d(skip, self.upsample.kernel, impl=impl)


class _Constant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(noise(1, channels, 4, 4))


class Generator(nn.Module):
    """StyleGAN2: mapping network and synthesis network.

    Parameters are float32. Activations are computed in :attr:`dtype`, styles in float32.
    :attr:`impl` selects the operators, see :data:`restyle.kernels.choice.Impl`.

    Args:
        config: the shape.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.dtype = torch.float32
        self.impl: Impl = "auto"
        widths, style_dim = config.widths, config.style_dim
        self.style = nn.Sequential(
            PixelNorm(),
            *(
                MappingLayer(config.z_dim if index == 0 else style_dim, style_dim)
                for index in range(config.mapping_layers)
            ),
        )
        self.input = _Constant(widths[0])
        self.conv1 = StyledConv(widths[0], widths[0], style_dim)
        self.to_rgb1 = ToRGB(widths[0], style_dim, up=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for narrow, wide in itertools.pairwise(widths):
            self.convs.append(StyledConv(narrow, wide, style_dim, up=True))
            self.convs.append(StyledConv(wide, wide, style_dim))
            self.to_rgbs.append(ToRGB(wide, style_dim))
        self.noises = nn.Module()
        for layer, side in enumerate(self._noise_sides()):
            self.noises.register_buffer(f"noise_{layer}", noise(1, 1, side, side))

    def _noise_sides(self) -> Iterator[int]:
        yield 4
        for block in range(len(self.config.widths) - 1):
            yield 2 ** (block + 3)
            yield 2 ** (block + 3)

    def stored_noise(self) -> list[Tensor]:
        """The noise maps in the weights, [1, 1, H, W] each, one per convolution."""
        return [self.noises.get_buffer(f"noise_{i}") for i in range(self.config.n_styles - 1)]

    def fresh_noise(self, batch: int) -> list[Tensor]:
        """Random noise maps, [B, 1, H, W] each, for training."""
        device = self.input.input.device
        return [torch.randn(batch, 1, side, side, device=device) for side in self._noise_sides()]

    def mapping(self, z: Tensor) -> Tensor:
        """Mapping network: z [B, z_dim] -> w [B, style_dim], float32."""
        w: Tensor = self.style(z)
        return w

    @torch.no_grad()
    def mean_latent(self, samples: int = 10_000, seed: int = 0) -> Tensor:
        """Mean of w over random z [style_dim], the centre of truncation."""
        source = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, self.config.z_dim, generator=source)
        return self.mapping(z.to(self.input.input.device)).mean(dim=0)

    @property
    def styled(self) -> Iterator[StyledConv]:
        """The modulated 3x3 convolutions, in the order of the noise maps."""
        yield self.conv1
        for layer in self.convs:
            yield cast(StyledConv, layer)

    def synthesis(
        self,
        latents: Tensor,
        noise: Sequence[Tensor] | None = None,
        fixed: Sequence[Fixed | None] | None = None,
    ) -> Tensor:
        """Render latents.

        Args:
            latents: [B, n_styles, style_dim] float32, w+ codes.
            noise: one map per convolution; the stored ones when None.
            fixed: forms of the convolutions of :attr:`styled` that have no gradient of the weight;
                None, also for a single one, for those of the parameters.

        Returns:
            [B, 3, size, size] float32, about [-1, 1] but not clipped.
        """
        maps = self.stored_noise() if noise is None else noise
        x = self.input.input.to(self.dtype).expand(latents.shape[0], -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        forms = [None] * len(maps) if fixed is None else fixed
        x = self.conv1(x, latents[:, 0], maps[0], self.impl, forms[0])
        image: Tensor = self.to_rgb1(x, latents[:, 1], impl=self.impl)
        for block, to_rgb in enumerate(self.to_rgbs):
            first = 2 * block + 1
            for at in (first, first + 1):
                x = self.convs[at - 1](x, latents[:, at], maps[at], self.impl, forms[at])
            image = to_rgb(x, latents[:, first + 2], image, self.impl)
        return image.float()

    def forward(self, z: Tensor, psi: float = 1.0, mean: Tensor | None = None) -> Tensor:
        """Sample images: z [B, z_dim] -> [B, 3, size, size].

        Args:
            z: standard normal input.
            psi: truncation; 1 does not change w, 0 gives the average image.
            mean: [style_dim] centre of truncation; computed when None.
        """
        w = self.mapping(z)
        if psi != 1.0:
            centre = self.mean_latent() if mean is None else mean
            w = centre + psi * (w - centre)
        return self.synthesis(w[:, None].expand(-1, self.config.n_styles, -1))
