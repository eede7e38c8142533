"""Photographs through the embedded photo model into the embedded cartoon model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from restyle.core import align_faces, decode_image, load_model
from restyle.core.inference.bootstrapping import check_compatible, invert_bootstrapped
from tests.inverted import NAMES


def test_photographs_become_cartoons(photos: Path) -> None:
    photo, toon = (load_model(name, dtype="fp32", device="cpu") for name in ("faces64", "toon64"))
    check_compatible(photo, toon)
    crops = []
    for name in NAMES:
        image = decode_image((photos / name).read_bytes())
        crops.append(np.asarray(align_faces(image, framing=toon.framing)[0].image))
    result = invert_bootstrapped(photo, toon, np.stack(crops), 4, reconstructions="all")
    assert result.reconstructions is not None
    images = result.reconstructions.clamp(-1, 1)
    first, last = images[:, 0], images[:, -1]
    # Cartoons are flat with dark outlines: brighter than the photographs here, and more coloured.
    assert last.mean() > first.mean() + 0.1
    assert saturation(last) > saturation(first)
    # Each still is the cartoon of its own photograph: its hair and background are where they were.
    inputs = photo.preprocess(np.stack(crops))
    pictures = torch.nn.functional.avg_pool2d(last, 16).flatten(1)
    originals = torch.nn.functional.avg_pool2d(inputs, 16).flatten(1)
    alike = torch.corrcoef(torch.cat([pictures, originals]))[:3, 3:]
    assert (alike.argmax(dim=1) == torch.arange(3)).all()


def saturation(images: torch.Tensor) -> float:
    """Mean difference between the strongest and the weakest channel."""
    return float((images.amax(dim=1) - images.amin(dim=1)).mean())
