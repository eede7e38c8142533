"""Pictures of random latents, to see whether a generator is the one that was meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from restyle.core.domains import preset_of
from restyle.core.errors import FatalError
from restyle.core.inference.model import load_model

_ACROSS = 4
_SEED = 0


@torch.inference_mode()
def write_samples(model: Path, path: Path) -> float:
    """Write a sheet of 4x4 random samples at the truncation of the model's domain.

    Args:
        model: model directory.
        path: of the picture; its suffix says the format.

    Returns:
        The truncation psi.

    Raises:
        CheckpointError: the model cannot be loaded.
        FatalError: the picture cannot be written.
    """
    loaded = load_model(model, dtype="fp32")
    psi = preset_of(loaded.config.domain).truncation
    source = torch.Generator().manual_seed(_SEED)
    z = torch.randn(_ACROSS**2, loaded.generator.config.z_dim, generator=source)
    w = loaded.generator.mapping(z.to(loaded.device))[:, None].expand(-1, loaded.n_styles, -1)
    truncated = torch.lerp(loaded.latent_avg.expand_as(w), w, psi)
    images = torch.cat([loaded.synthesize(one).cpu() for one in torch.split(truncated, 1)])
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    rows = [torch.cat(list(row), dim=2) for row in torch.split(pixels, _ACROSS)]
    sheet = torch.cat(rows, dim=1).permute(1, 2, 0).contiguous()
    try:
        Image.fromarray(np.asarray(sheet)).save(path)
    except (OSError, ValueError) as error:
        raise FatalError(f"{path} cannot be written: {error}") from error
    return psi
