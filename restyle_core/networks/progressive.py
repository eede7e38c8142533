"""e4e's progressive heads: one style vector, and differences of the others to it.

Tov et al., "Designing an Encoder for StyleGAN Image Manipulation" (2102.02766), section 4.1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def styles_from_deltas(styles: Tensor, stage: int | None = None) -> Tensor:
    """Compute style vectors from the predictions of progressive heads.

    Args:
        styles: [B, n_styles, style_dim]; row 0 is w0, the others are differences to it.
        stage: the last row with a difference, during progressive training; None for all.

    Returns:
        [B, n_styles, style_dim]: row i is w0, or w0 plus its difference.
    """
    base, differences = styles[:, :1], styles[:, 1:]
    if stage is not None:
        later = torch.arange(1, styles.shape[1], device=styles.device) > stage
        differences = differences.masked_fill(later[:, None], 0.0)
    return torch.cat([base, base + differences], dim=1)
