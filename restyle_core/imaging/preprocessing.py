"""Conversion between pictures in memory and tensors of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from restyle.core.errors import FatalError, SpecError

Images = Tensor | npt.NDArray[Any] | Sequence[Image.Image]
"""uint8 [B, H, W, 3], float [B, 3, H, W] in [-1, 1], or pictures of any sizes."""

# Tolerance, because interpolation and rounding exceed the range slightly.
_RANGE = 1.05


def preprocess(images: Images, size: tuple[int, int]) -> Tensor:
    """Resize images to the encoder's input and scale them to [-1, 1].

    The aspect ratio is not kept, as in the training of the published models for cars. Eight-bit
    images are resized by Pillow (bilinear, antialiased), as in the published code.

    Args:
        images: uint8 [B, H, W, 3] (array or tensor), float [B, 3, H, W] in [-1, 1], or a sequence
            of RGB pictures.
        size: height and width.

    Returns:
        [B, 3, height, width] float32 in [-1, 1]; channels_last where the images were bytes.

    Raises:
        SpecError: the images have another shape, dtype or range.
    """
    if isinstance(images, Tensor | np.ndarray):
        batch = torch.as_tensor(images)
        if batch.ndim == 4 and batch.dtype == torch.uint8 and batch.shape[3] == 3:
            if tuple(batch.shape[1:3]) == size:
                return _from_bytes(batch.cpu().numpy())
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


def eight_bit(images: Images, size: tuple[int, int]) -> Tensor | None:
    """The images as bytes if they need no resizing, else None.

    Args:
        images: as for :func:`preprocess`.
        size: height and width.

    Returns:
        [B, height, width, 3] uint8.
    """
    if not isinstance(images, Tensor | np.ndarray):
        return None
    batch = torch.as_tensor(images)
    fits = batch.ndim == 4 and batch.dtype == torch.uint8 and tuple(batch.shape[1:]) == (*size, 3)
    return batch if fits else None


def from_eight_bit(pixels: Tensor) -> Tensor:
    """Scale bytes as :func:`preprocess` does, on their device.

    Args:
        pixels: [B, h, w, 3] uint8.

    Returns:
        [B, 3, h, w] float32 in [-1, 1], channels_last.
    """
    # A GPU divides by a Python number as a product with its reciprocal, which rounds differently.
    half = torch.full((), 127.5, device=pixels.device)
    return (pixels.float() / half - 1).permute(0, 3, 1, 2)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Convert generated images to pictures.

    Args:
        images: [B, 3, h, w], clipped to [-1, 1].

    Returns:
        B RGB pictures.

    Raises:
        FatalError: values are not finite; in eight bits they would be black.
    """
    finite = images.isfinite().flatten(1).all(1)
    if not finite.all():
        raise FatalError(
            f"{int((~finite).sum())} of {len(images)} generated images hold values that are not "
            "finite: the latents, the model's weights or its precision are at fault; try "
            "dtype fp32, another checkpoint, or smaller strengths"
        )
    return [_picture(pixels) for pixels in to_bytes(images).cpu().permute(0, 2, 3, 1).numpy()]


def to_bytes(images: Tensor) -> Tensor:
    """Convert generated images to eight bits.

    Args:
        images: [..., 3, h, w], clipped to [-1, 1].

    Returns:
        uint8 of the same shape, on the same device.
    """
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def _picture(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


def _from_bytes(batch: npt.NDArray[np.uint8]) -> Tensor:
    """Scale bytes to [-1, 1], image by image in one thread: each stays in the processor's cache."""
    scaled = np.empty(batch.shape, np.float32)
    for image, pixels in zip(scaled, batch, strict=True):
        image[:] = pixels
        image /= np.float32(127.5)
        image -= 1
    # channels_last, which is fastest for convolutions.
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def _from_pictures(pictures: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    height, width = size
    # Pillow only copies a picture of the requested size.
    resized = [picture.resize((width, height), Image.Resampling.BILINEAR) for picture in pictures]
    return _from_bytes(np.stack([np.asarray(picture) for picture in resized]))


def _from_floats(batch: Tensor, size: tuple[int, int]) -> Tensor:
    if batch.numel() and not (batch.abs().amax() <= _RANGE):
        raise SpecError("float images must lie in [-1, 1]; divide 8-bit values by 127.5 less 1")
    if tuple(batch.shape[-2:]) == size:
        return batch
    return F.interpolate(batch, size=size, mode="bilinear", align_corners=False, antialias=True)
