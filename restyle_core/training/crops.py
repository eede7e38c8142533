"""Aligned training images in memory, in an order that depends on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restyle_core.errors import SpecError


@dataclass(frozen=True, eq=False)
class CropSet:
    """Aligned crops.

    Attributes:
        images: [N, 3, S, S] uint8.
        z: [N, z_dim] float32, the teacher's input for each image; z_dim is 0 where the files
            carry none.
    """

    images: Tensor
    z: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def load(cls, paths: Sequence[Path]) -> CropSet:
        """Read and join .npz files.

        Raises:
            SpecError: a file is missing, damaged, or has no ``images``; ``z`` is in some only.
        """
        images, codes = [], []
        for path in paths:
            try:
                with np.load(path, allow_pickle=False) as data:
                    images.append(torch.from_numpy(data["images"]).permute(0, 3, 1, 2))
                    if "z" in data:
                        codes.append(torch.from_numpy(data["z"]))
            except (OSError, ValueError, KeyError) as error:
                raise SpecError(f"{path} is no file of training crops: {error}") from error
        if codes and len(codes) != len(images):
            raise SpecError(f"some of {', '.join(map(str, paths))} carry z and some do not")
        joined = torch.cat(images).contiguous()
        z = torch.cat(codes) if codes else torch.empty(len(joined), 0)
        return cls(joined, z)

    def batch(self, indices: Tensor) -> Tensor:
        """[B, 3, S, S] float32 in [-1, 1]."""
        return self.images[indices].float().div_(127.5).sub_(1.0)


def batch_indices(length: int, batch: int, step: int, seed: int) -> Tensor:
    """Indices of one batch of an endless sequence of shuffled epochs.

    The order is a function of the seed and the step, so a resumed run sees the same batches.

    Args:
        length: images in the set.
        batch: images per batch.
        step: number of the batch, from 0.
        seed: of the shuffling.

    Returns:
        [batch] int64.
    """
    first = step * batch
    epochs = range(first // length, (first + batch - 1) // length + 1)
    orders = [
        torch.randperm(length, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        for epoch in epochs
    ]
    offset = first - epochs[0] * length
    return torch.cat(orders)[offset : offset + batch]
