"""From pictures in memory to the encoder's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from restyle_core.errors import SpecError

Images = Tensor | npt.NDArray[Any] | Sequence[Image.Image]
"""uint8 [B, H, W, 3], float [B, 3, H, W] in [-1, 1], or pictures of any sizes."""

# Interpolation and rounding carry honest images a little beyond the range.
_RANGE = 1.05


def preprocess(images: Images, size: tuple[int, int]) -> Tensor:
    """Resize images to the encoder's input and scale them to [-1, 1].

    The aspect ratio is not kept, which is what the published models for cars were trained with.
    Eight-bit images are resized by Pillow (bilinear, antialiased), as the published code does.

    Args:
        images: uint8 [B, H, W, 3] (array or tensor), float [B, 3, H, W] in [-1, 1], or a sequence
            of RGB pictures.
        size: height and width.

    Returns:
        [B, 3, height, width] float32 in [-1, 1].

    Raises:
        SpecError: another shape, dtype or range.
    """
    if isinstance(images, Tensor | np.ndarray):
        batch = torch.as_tensor(images)
        if batch.ndim == 4 and batch.dtype == torch.uint8 and batch.shape[3] == 3:
            if tuple(batch.shape[1:3]) == size:
                # Turned as bytes, a quarter of what floats would move.
                return batch.cpu().permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1.0)
            return _from_pictures([_picture(pixels) for pixels in batch.cpu().numpy()], size)
        if batch.ndim == 4 and batch.is_floating_point() and batch.shape[1] == 3:
            return _from_floats(batch.float(), size)
        raise SpecError(
            f"images of {batch.dtype} {list(batch.shape)}; expected uint8 [B, H, W, 3] "
            "or float [B, 3, H, W] in [-1, 1]"
        )
    if isinstance(images, Image.Image) or not all(isinstance(i, Image.Image) for i in images):
        raise SpecError("images must be one batch, or a list of PIL images")
    return _from_pictures([picture.convert("RGB") for picture in images], size)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Generated images as pictures, the way they are saved.

    Args:
        images: [B, 3, h, w], about [-1, 1]; what lies outside is clipped.

    Returns:
        B RGB pictures.
    """
    return [_picture(pixels) for pixels in to_bytes(images).cpu().numpy()]


def to_bytes(images: Tensor) -> Tensor:
    """Generated images in eight bits, the way they are saved.

    Args:
        images: [..., 3, h, w], about [-1, 1]; what lies outside is clipped.

    Returns:
        [..., h, w, 3] uint8 on the same device, with the channels first in memory.
    """
    scaled = images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return scaled.movedim(-3, -1)


def _picture(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


def _from_pictures(pictures: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    height, width = size
    batch = torch.empty(len(pictures), 3, height, width)
    for row, picture in zip(batch, pictures, strict=True):
        resized = picture
        if picture.size != (width, height):
            resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized, dtype=np.uint8))
        row.copy_(pixels.permute(2, 0, 1))
    return batch.div_(127.5).sub_(1.0)


def _from_floats(batch: Tensor, size: tuple[int, int]) -> Tensor:
    if batch.numel() and not (batch.abs().amax() <= _RANGE):
        raise SpecError("float images must lie in [-1, 1]; divide 8-bit values by 127.5 less 1")
    if tuple(batch.shape[-2:]) == size:
        return batch
    return F.interpolate(batch, size=size, mode="bilinear", align_corners=False, antialias=True)
