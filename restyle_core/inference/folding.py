"""Batch norms that only repeat their statistics, as factors and shifts of convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor and shift [C] that a batch norm comes to."""
    factor = norm.weight * torch.rsqrt(norm.get_buffer("running_var") + norm.eps)
    return factor, norm.bias - norm.get_buffer("running_mean") * factor


def norm_behind(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias [out] of a convolution with the norm behind it."""
    factor, shift = affine(norm)
    return conv.weight * factor[:, None, None, None], shift


def norm_in_front(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight of a 3x3 convolution with the norm in front of it, and what the shift adds.

    Returns:
        [out, in, 3, 3], and [out, 3, 3]: what each tap adds where it meets no padding.
    """
    factor, shift = affine(norm)
    return conv.weight * factor[:, None, None], torch.einsum("oikl,i->okl", conv.weight, shift)
