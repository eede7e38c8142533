"""Plain PyTorch definitions of the generator's operators.

Modulation scales activations instead of weights: with style s and weight W,
``conv(x, W * s) = conv(x * s, W)``, so that a batch shares one dense convolution
(Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 1912.04958, section 2.2).
All operators keep the dtype and memory format of ``x``; styles and small factors are float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

GAIN = math.sqrt(2.0)
"""Gain after the leaky ReLU, which preserves the variance of activations."""

NEGATIVE_SLOPE = 0.2
DEMODULATION_EPSILON = 1e-8


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """Factors that restore unit variance in each output map of a modulated convolution.

    Args:
        weight: [out, in, k, k] scaled convolution weight.
        style: [B, in] modulation.

    Returns:
        [B, out] ``1 / sqrt(sum_in,k (style * weight)^2 + 1e-8)`` (1912.04958, equation 3).
    """
    energy = weight.float().square().sum(dim=(2, 3))
    return torch.rsqrt(style.float().square() @ energy.t() + DEMODULATION_EPSILON)


def modulated_conv2d(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    """Convolve with modulated weights, without demodulation.

    Args:
        x: [B, in, H, W] activations.
        weight: [out, in, k, k] scaled weight, k odd.
        style: [B, in] modulation.

    Returns:
        [B, out, H, W].
    """
    x = x * style.to(x.dtype)[:, :, None, None]
    return F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)


def modulated_upconv2d(x: Tensor, weight: Tensor, style: Tensor, fir: Tensor) -> Tensor:
    """Upsample by two with a modulated transposed convolution and smooth with a FIR filter.

    Both filters are fused: each of the four output phases is a 3x3 convolution of the input, so the
    operator is one convolution at low resolution and a pixel shuffle.

    Args:
        x: [B, in, H, W] activations.
        weight: [out, in, 3, 3] scaled weight.
        style: [B, in] modulation.
        fir: [4, 4] smoothing filter, gain 4 included.

    Returns:
        [B, out, 2H, 2W].
    """
    x = x * style.to(x.dtype)[:, :, None, None]
    phases = fold_upsampling(weight, fir).to(x.dtype)
    return F.pixel_shuffle(F.conv2d(x, phases, padding=1), 2)


def fold_upsampling(weight: Tensor, fir: Tensor) -> Tensor:
    """Weight of the convolution that equals a transposed convolution followed by a blur.

    With K = weight * fir (full convolution, 6 taps a side) the output at 2a + p is
    ``sum_d x[a + d] K[2 + p - 2d]`` for d in -1, 0, 1.

    Args:
        weight: [out, in, 3, 3].
        fir: [4, 4].

    Returns:
        [4 * out, in, 3, 3], output channels in the order of ``pixel_shuffle``.
    """
    out_channels, in_channels = weight.shape[:2]
    # The fusion is linear in the nine taps: the nine unit filters are fused, then combined.
    units = torch.eye(9, dtype=weight.dtype, device=weight.device).view(9, 1, 3, 3)
    # conv2d computes a correlation; flipping the FIR makes it a convolution.
    full = F.conv2d(units, fir.to(weight.dtype).flip(0, 1)[None, None], padding=3)[:, 0]
    phases = [full[:, row::2, column::2].flip(1, 2) for row in (0, 1) for column in (0, 1)]
    folded = weight.reshape(-1, 9) @ torch.stack(phases, dim=1).view(9, 36)
    folded = folded.view(out_channels, in_channels, 4, 3, 3).transpose(1, 2)
    return folded.reshape(4 * out_channels, in_channels, 3, 3)


def noise_bias_act(
    x: Tensor, demodulation: Tensor, noise: Tensor, noise_weight: Tensor, bias: Tensor
) -> Tensor:
    """Demodulate, add noise and bias, and apply the leaky ReLU with its gain.

    ``y = sqrt(2) * leaky_relu(x * demodulation + noise_weight * noise + bias, 0.2)``

    Args:
        x: [B, C, H, W] output of a modulated convolution.
        demodulation: [B, C] factors.
        noise: [1 or B, 1, H, W].
        noise_weight: [1].
        bias: [C].

    Returns:
        [B, C, H, W].
    """
    # The gain is positive, so it can be applied before the ReLU, where it costs nothing.
    scale = (demodulation * GAIN).to(x.dtype)[:, :, None, None]
    scaled_noise = (noise_weight * GAIN * noise).to(x.dtype)
    y = torch.addcmul(scaled_noise, x, scale) + (bias * GAIN).to(x.dtype)[:, None, None]
    return F.leaky_relu(y, NEGATIVE_SLOPE, inplace=True)


def modulated_rgb(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor) -> Tensor:
    """The 1x1 modulated convolution to RGB, without demodulation.

    Args:
        x: [B, in, H, W] activations.
        weight: [3, in] scaled weight.
        style: [B, in] modulation.
        bias: [3].

    Returns:
        [B, 3, H, W].
    """
    batch, channels, height, width = x.shape
    # Modulating the small weight saves a pass over the activations.
    modulated = (weight[None] * style[:, None, :]).to(x.dtype)
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    rgb: Tensor = _Projection.apply(pixels, modulated)  # type: ignore[no-untyped-call]
    rgb = rgb + bias.to(x.dtype)
    return rgb.view(batch, height, width, 3).permute(0, 3, 1, 2)


class _Projection(torch.autograd.Function):
    """Pixels [B, P, in] times weights [B, 3, in]: [B, P, 3].

    PyTorch's own gradient of the weights multiplies the pixels' transpose from the left, which
    takes MKL up to fifty times as long as this order: a third of a step at 1024 x 1024.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, pixels: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(pixels, weight)
        return torch.bmm(pixels, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        pixels, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_pixels, of_weight = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if of_pixels else None,
            torch.bmm(gradient.transpose(1, 2), pixels) if of_weight else None,
        )


def upfirdn2d(
    x: Tensor,
    fir: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: Sequence[int] = (0, 0, 0, 0),
) -> Tensor:
    """Insert zeros between pixels, pad, filter, and keep every ``down``-th pixel.

    Args:
        x: [B, C, H, W].
        fir: [kh, kw] filter, applied as a convolution: an impulse gives the filter itself.
        up: factor of upsampling.
        down: factor of downsampling.
        padding: left, right, top, bottom; negative values crop.

    Returns:
        [B, C, (H * up + top + bottom - kh) // down + 1, and the same of the width].
    """
    batch, channels, height, width = x.shape
    if up > 1:
        tall = x.new_zeros(batch, channels, height, up, width, up)
        tall[:, :, :, 0, :, 0] = x
        x = tall.view(batch, channels, height * up, width * up)
    x = F.pad(x, list(padding))
    kernel = fir.to(x.dtype).flip(0, 1)[None, None].expand(channels, 1, -1, -1)
    return F.conv2d(x, kernel, stride=down, groups=channels)


def upsample2d(x: Tensor, fir: Tensor) -> Tensor:
    """Double the resolution with a 4x4 FIR filter.

    Args:
        x: [B, C, H, W].
        fir: [4, 4] filter, gain 4 included.

    Returns:
        [B, C, 2H, 2W].
    """
    channels = x.shape[1]
    kernel = fir.to(x.dtype)[None, None].expand(channels, 1, -1, -1)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


def leaky_relu_gain(x: Tensor) -> Tensor:
    """``sqrt(2) * leaky_relu(x, 0.2)``."""
    return F.leaky_relu(x, NEGATIVE_SLOPE) * GAIN
