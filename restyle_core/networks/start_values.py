"""What parameters hold before they are trained or loaded."""

from __future__ import annotations

import torch
from torch import Tensor


def noise(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
    """Normally distributed values; only their shape on the meta device.

    There, arithmetic would make PyTorch import its compiler, which takes longer than all else that
    loading a model does.
    """
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_().mul_(std).add_(mean)
