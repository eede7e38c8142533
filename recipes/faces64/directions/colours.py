"""Colours of pictures in CIE Lab, differentiable, so that a direction can be kept from a cast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PATCHES = 4
"""Patches along each side of a picture, over which the cast is told."""

# From linear sRGB to XYZ (IEC 61966-2-1), each row over the white point D65.
_TO_XYZ = torch.tensor(
    [
        [0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883],
    ]
)
_DARK, _SLOPE = 216 / 24389, 24389 / 27


def lab(pictures: Tensor) -> Tensor:
    """Lightness L* (0 to 100), a* (green to red) and b* (blue to yellow) [N, 3, H, W].

    Args:
        pictures: sRGB [N, 3, H, W] in [-1, 1]; what lies beyond is clamped.
    """
    shares = (pictures.clamp(-1, 1) + 1) / 2
    linear = torch.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("xc,nchw->nxhw", _TO_XYZ.to(linear), linear)
    # A root's gradient at zero is infinite, and would be multiplied by the other branch's zero.
    f = torch.where(xyz > _DARK, xyz.clamp_min(_DARK) ** (1 / 3), (_SLOPE * xyz + 16) / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def cast(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Change of the mean colour, in units of Lab.

    Args:
        before: [N, 3, S, S] in [-1, 1].
        after: likewise.

    Returns:
        [N, 3] of the whole picture, and [N, 3, PATCHES, PATCHES].
    """
    patches = F.adaptive_avg_pool2d(lab(after) - lab(before), PATCHES)
    return patches.mean(dim=(2, 3)), patches
