"""Aligned training images in memory, and the order of batches by seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from restyle.core.checkpoints.numpy_files import ArrayFileError, read_arrays
from restyle.core.errors import RejectError, SpecError
from restyle.core.imaging.decoding import decode_image

_BYTES = (np.dtype(np.uint8),)
_FLOATS = tuple(np.dtype(kind) for kind in (np.float16, np.float32, np.float64))
_ARRAYS = {
    "images": (_BYTES, 4),
    "z": (_FLOATS, 2),
    "latents": (_FLOATS, 3),
    "targets": (_BYTES, 4),
}
"""Allowed dtypes and number of axes of each array in a file, by name."""

SUFFIXES = frozenset(Image.registered_extensions()) - {".pdf", ".eps"}
"""File name suffixes of images."""


@dataclass(frozen=True, eq=False)
class CropSet:
    """Aligned crops.

    Attributes:
        images: [N, 3, S, S] uint8.
        z: [N, z_dim] float32, the teacher's input for each image; z_dim is 0 without ``z``.
        latents: [N, n_styles, style_dim] float16, the W+ latent of each image, or None.
        targets: [N, 3, S, S] uint8, targets of reconstructions that differ from the images, or
            None.
    """

    images: Tensor
    z: Tensor
    latents: Tensor | None = None
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def load(cls, paths: Sequence[Path], size: int | None = None) -> CropSet:
        """Read and concatenate .npz files and folders of images.

        Args:
            paths: files and folders.
            size: side in pixels to which images of folders are resized.

        Raises:
            SpecError: a file is missing, damaged or without ``images``; a folder is empty; only
                some files have ``z``; sizes differ.
        """
        parts = [
            {"images": read_folder(path, size)} if path.is_dir() else _read_arrays(path)
            for path in paths
        ]
        named = ", ".join(map(str, paths))
        if len({tuple(part["images"].shape[1:]) for part in parts}) > 1:
            raise SpecError(f"{named} hold images of different sizes")
        joined = {}
        for name in _ARRAYS:
            found = [part[name] for part in parts if name in part]
            if found and len(found) != len(parts):
                raise SpecError(f"some of {named} carry {name} and some do not")
            if found:
                joined[name] = torch.cat(found).contiguous()
        return cls(**{"z": torch.empty(len(joined["images"]), 0)} | joined)

    def batch(self, indices: Tensor) -> Tensor:
        """[B, 3, S, S] float32 in [-1, 1]."""
        return self.images[indices].float().div_(127.5).sub_(1.0)

    def target_batch(self, indices: Tensor) -> Tensor:
        """[B, 3, S, S] float32 in [-1, 1]: the targets, or the images where there are none."""
        source = self.images if self.targets is None else self.targets
        return source[indices].float().div_(127.5).sub_(1.0)


def _read_arrays(path: Path) -> dict[str, Tensor]:
    try:
        found = read_arrays(path, _ARRAYS)
    except ArrayFileError as error:
        raise SpecError(f"{path} is no file of training crops: {error}") from error
    if "images" not in found:
        raise SpecError(f"{path} is no file of training crops: it has no images")
    _check_arrays(found, path)
    tensors = {name: torch.from_numpy(array) for name, array in found.items()}
    for name in {"images", "targets"} & tensors.keys():
        tensors[name] = tensors[name].permute(0, 3, 1, 2)
    return tensors


def _check_arrays(found: dict[str, npt.NDArray[Any]], path: Path) -> None:
    """Check dtypes and shapes against :class:`CropSet` and the images."""
    images = found["images"]
    for name, array in found.items():
        kind, axes = _ARRAYS[name]
        is_picture = kind == _BYTES
        wanted = (*images.shape[:3], 3) if is_picture else images.shape[:1]
        if array.dtype not in kind or array.ndim != axes or array.shape[: len(wanted)] != wanted:
            words = "numbers of 8 bits [N, S, S, 3]" if is_picture else f"floats of {axes} axes"
            raise SpecError(
                f"{path} is no file of training crops: {name} is {array.dtype} "
                f"{list(array.shape)}, where {words} for each of its images are needed"
            )


def read_folder(folder: Path, size: int | None) -> Tensor:
    """The images below a folder as [N, 3, size, size] uint8, in the order of their paths.

    Each image is cropped to its largest central square. Files without a suffix of
    :data:`SUFFIXES` are ignored.

    Raises:
        SpecError: an image cannot be decoded, or the folder has none.
    """
    if size is None:
        raise SpecError(f"{folder} is a folder; here an .npz file of training crops is needed")
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not files:
        raise SpecError(f"{folder} holds no images")
    pixels = np.empty((len(files), size, size, 3), np.uint8)
    for index, path in enumerate(files):
        try:
            image = decode_image(path.read_bytes())
        except (OSError, RejectError) as error:
            raise SpecError(f"{path} cannot be used: {error}; repair or remove it") from error
        pixels[index] = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def batch_indices(length: int, batch: int, step: int, seed: int) -> Tensor:
    """Indices of one batch of an infinite sequence of shuffled epochs.

    The order depends only on the seed and the step, so that a resumed run sees the same batches.

    Args:
        length: images in the set.
        batch: images per batch.
        step: number of the batch, from 0.
        seed: of the order.

    Returns:
        [batch] int64.
    """
    if batch == 0:
        return torch.empty(0, dtype=torch.int64)
    first = step * batch
    epochs = range(first // length, (first + batch - 1) // length + 1)
    orders = [
        torch.randperm(length, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        for epoch in epochs
    ]
    offset = first - epochs[0] * length
    return torch.cat(orders)[offset : offset + batch]
