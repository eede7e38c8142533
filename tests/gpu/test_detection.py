"""The convolutional face detector on the device: the CPU's faces, alone and in batches."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from restyle.core.faces.mmod.detector import find_mmod_faces


def photographs() -> torch.Tensor:
    portrait = torch.from_numpy(astronaut())
    return torch.stack([portrait, portrait.flip(1), torch.zeros_like(portrait), portrait.flip(0)])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_faces_are_the_cpu_s(dtype: torch.dtype | None) -> None:
    expected = find_mmod_faces(photographs())
    found = find_mmod_faces(photographs().cuda(), dtype=dtype)
    assert [len(faces) for faces in found] == [len(faces) for faces in expected]
    assert len(found[0]) == 1
    for ours, theirs in zip(found, expected, strict=True):
        for face, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(face.box, other.box, atol=1)
            assert face.score == pytest.approx(other.score, abs=1e-3)


def test_speed() -> None:
    """Prints a figure; only its presence is checked."""
    images = torch.nn.functional.interpolate(
        photographs().permute(0, 3, 1, 2).float(), (1024, 1024), mode="bilinear"
    )
    batch = images.permute(0, 2, 3, 1).to(torch.uint8).repeat(4, 1, 1, 1).cuda()
    find_mmod_faces(batch)
    torch.cuda.synchronize()
    started = time.perf_counter()
    found = find_mmod_faces(batch)
    seconds = time.perf_counter() - started
    print(f"convolutional detector: {len(batch) / seconds:.1f} photographs of 1024x1024 a second")
    assert len(found) == len(batch)
