"""Folding of batch norms with fixed statistics into convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor and shift [C] of a batch norm."""
    factor = norm.weight * torch.rsqrt(norm.get_buffer("running_var") + norm.eps)
    return factor, norm.bias - norm.get_buffer("running_mean") * factor


def norm_behind(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias [out] of a convolution followed by a norm."""
    factor, shift = affine(norm)
    return conv.weight * factor[:, None, None, None], shift


def norm_in_front(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight [out, in, 3, 3] of a norm followed by a 3x3 convolution, and the bias of each tap.

    Returns:
        The weight, and [out, 3, 3]: what the norm's shift adds through each tap outside of padding.
    """
    factor, shift = affine(norm)
    return conv.weight * factor[:, None, None], torch.einsum("oikl,i->okl", conv.weight, shift)
