"""The baseline of benchmarks: refinement in plain PyTorch and float32.

As in published implementations, weights are modulated for every sample and applied by a grouped
convolution (Karras et al., 1912.04958, section 2.2), and the encoder's heads run one by one. The
module reads weights by their published keys and shares no code with the fast path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.networks.config import ModelConfig


class GroupedReference:
    """Generator and encoder of a model, with the interface of the fast path.

    Args:
        config: of the model.
        generator: weights in the published layout, float32.
        encoder: in evaluation mode, float32.
    """

    def __init__(
        self, config: ModelConfig, generator: Mapping[str, Tensor], encoder: nn.Module
    ) -> None:
        self._config = config
        self._state = generator
        self._encoder = encoder

    def encode(self, x: Tensor, previous: Tensor) -> Tensor:
        """Images and reconstructions, both [B, 3, h, w] -> [B, n_styles, style_dim]."""
        iterative = next(self._encoder.parameters()).shape[1] == 6
        styles: Tensor = self._encoder(torch.cat([x, previous], dim=1) if iterative else x)
        return styles

    def pool(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 3, h, w]."""
        return F.adaptive_avg_pool2d(images, self._config.image_size)

    def synthesize(self, latents: Tensor) -> Tensor:
        """[B, n_styles, style_dim] -> [B, 3, H, W]."""
        x = self._state["input.input"].expand(len(latents), -1, -1, -1)
        x = self._styled("conv1", x, latents[:, 0], 0)
        image = self._rgb("to_rgb1", x, latents[:, 1])
        for block in range(latents.shape[1] // 2 - 1):
            first = 2 * block + 1
            x = self._styled(f"convs.{2 * block}", x, latents[:, first], first)
            x = self._styled(f"convs.{2 * block + 1}", x, latents[:, first + 1], first + 1)
            rgb = f"to_rgbs.{block}"
            skip = self._upsample(image, self._state[f"{rgb}.upsample.kernel"])
            image = skip + self._rgb(rgb, x, latents[:, first + 2])
        rows = self._config.output_rows
        return image if rows is None else image[:, :, rows[0] : rows[1]]

    def _styled(self, name: str, x: Tensor, latent: Tensor, noise: int) -> Tensor:
        y = self._modulated(f"{name}.conv", x, latent, demodulate=True)
        y = y + self._state[f"{name}.noise.weight"] * self._state[f"noises.noise_{noise}"]
        y = y + self._state[f"{name}.activate.bias"][:, None, None]
        return F.leaky_relu(y, 0.2) * math.sqrt(2)

    def _rgb(self, name: str, x: Tensor, latent: Tensor) -> Tensor:
        y = self._modulated(f"{name}.conv", x, latent, demodulate=False)
        return y + self._state[f"{name}.bias"]

    def _modulated(self, name: str, x: Tensor, latent: Tensor, *, demodulate: bool) -> Tensor:
        batch, channels, height, width = x.shape
        weight = self._state[f"{name}.weight"]
        out, _, kernel, _ = weight.shape[1:]
        matrix, bias = (self._state[f"{name}.modulation.{part}"] for part in ("weight", "bias"))
        style = F.linear(latent, matrix / math.sqrt(matrix.shape[1]), bias)
        weight = weight / math.sqrt(channels * kernel * kernel) * style[:, None, :, None, None]
        if demodulate:
            weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        x = x.reshape(1, batch * channels, height, width)
        fir = self._state.get(f"{name}.blur.kernel")
        if fir is None:
            weight = weight.reshape(batch * out, channels, kernel, kernel)
            y = F.conv2d(x, weight, padding=kernel // 2, groups=batch)
        else:
            weight = weight.transpose(1, 2).reshape(batch * channels, out, kernel, kernel)
            y = F.conv_transpose2d(x, weight, stride=2, groups=batch)
            y = _blur(y, fir, 1)
        return y.view(batch, out, y.shape[2], y.shape[3])

    @staticmethod
    def _upsample(image: Tensor, fir: Tensor) -> Tensor:
        batch, channels, height, width = image.shape
        spread = image.new_zeros(batch, channels, 2 * height, 2 * width)
        spread[:, :, ::2, ::2] = image
        # Padding of two before and one after; the inserted zeros already add one at the end.
        return _blur(F.pad(spread, (2, 1, 2, 1)), fir, 0)


def _blur(x: Tensor, fir: Tensor, padding: int) -> Tensor:
    channels = x.shape[1]
    kernel = fir.flip(0, 1).expand(channels, 1, -1, -1)
    return F.conv2d(x, kernel, padding=padding, groups=channels)
