"""Initial values of parameters."""

from __future__ import annotations

import torch
from torch import Tensor


def noise(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
    """Normally distributed values; on the meta device only an empty tensor.

    Arithmetic on the meta device makes PyTorch import its compiler, which dominates the time to
    load a model.
    """
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_().mul_(std).add_(mean)
