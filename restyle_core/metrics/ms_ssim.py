"""Multi-scale structural similarity, per image.

Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment" (2003),
equations 1 to 7, over windows inside the image. Negative terms are set to zero, and the terms of a
scale are averaged over positions and channels before the scales are multiplied.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11
"""Side in pixels of the Gaussian window, and the smallest side of an image."""

_SIGMA = 1.5
_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_C1 = 0.01**2
_C2 = 0.03**2


def scale_weights(height: int, width: int) -> tuple[float, ...]:
    """The exponents for an image of this size.

    Five scales need 176 pixels. Smaller images use the scales whose reduced image contains a
    window, with the paper's exponents divided by their sum, so that a similarity of s at every
    scale gives
    s: images of 64 pixels have three scales, 0.0711, 0.4530 and 0.4760.

    Raises:
        ValueError: the image is smaller than the window.
    """
    side, count = min(height, width), 0
    while side >= WINDOW and count < len(_BETAS):
        side, count = side // 2, count + 1
    if not count:
        raise ValueError(f"MS-SSIM needs {WINDOW} pixels a side, the images are {height}x{width}")
    kept = _BETAS[:count]
    return tuple(beta / sum(kept) for beta in kept) if count < len(_BETAS) else kept


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Similarity of two batches.

    Args:
        a: [B, C, h, w] float32 in [0, 1].
        b: the same shape.

    Returns:
        [B] float32 in [0, 1], 1 for equal images.

    Raises:
        ValueError: the images are smaller than the window.
    """
    betas = scale_weights(*a.shape[-2:])
    result = torch.ones(a.shape[0], dtype=a.dtype, device=a.device)
    for scale, beta in enumerate(betas):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        similarity, contrast = _ssim_terms(a, b)
        term = similarity if scale == len(betas) - 1 else contrast
        result = result * F.relu(term) ** beta
    return result


def _ssim_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term, each [B], over windows inside the image."""
    batch, channels = a.shape[:2]
    moments = torch.cat([a, b, a * a, b * b, a * b]).flatten(0, 1)[:, None]
    offsets = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    window = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window = window / window.sum()
    # conv2d with one input channel: the five moments of all channels in one pass.
    moments = F.conv2d(F.conv2d(moments, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    shape = (5, batch, channels, *moments.shape[-2:])
    mean_a, mean_b, square_a, square_b, product = moments.view(shape).unbind()
    variances = square_a - mean_a**2 + square_b - mean_b**2
    contrast = (2 * (product - mean_a * mean_b) + _C2) / (variances + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return (luminance * contrast).mean(dim=(1, 2, 3)), contrast.mean(dim=(1, 2, 3))
