"""Reduction of a part of a photograph, before a large face is cropped from it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.imaging.shared_pixels import shared_pixels
from restyle.kernels.hog import Sums, resampled, why_unavailable

Part = tuple[int, int, int, int]
"""Left, top, and what is behind right and bottom, in pixels."""

# Standard deviations after which a normal distribution is cut off.
_CUT = 3.5


def reduced(image: Image.Image, size: tuple[int, int], part: Part, *, exact: bool) -> Image.Image:
    """A part of a photograph resized to ``size``, without computing the rest.

    Args:
        image: RGB photograph.
        size: width and height of the whole photograph when resized.
        part: of the resized photograph.
        exact: with Lanczos' filter, as in the published recipe; otherwise with Hamming's, which is
            a third as wide.
    """
    if size == image.size:
        return image.crop(part)
    if not exact and not why_unavailable():
        left, top, right, bottom = part
        columns = _hamming(image.width, size[0], left, right)
        rows = _hamming(image.height, size[1], top, bottom)
        return picture_of(resampled(shared_pixels(image), rows, columns))
    filtering = Image.Resampling.LANCZOS if exact else Image.Resampling.HAMMING
    left, top, right, bottom = part
    across, down = image.width / size[0], image.height / size[1]
    box = (left * across, top * down, right * across, bottom * down)
    # The filter also reads pixels outside of the box, so the result equals a crop of the whole.
    return image.resize((right - left, bottom - top), filtering, box=box)


def blurred(image: Image.Image, sigma: float) -> Image.Image:
    """Blur an RGB image, reflected at its edges, by a normal distribution.

    Args:
        image: to blur.
        sigma: standard deviation in pixels.
    """
    if why_unavailable():
        # Imported late, because it takes a quarter of a second and few photographs need it.
        from scipy.ndimage import gaussian_filter

        smooth = gaussian_filter(np.asarray(image, np.float32), [sigma, sigma, 0])
        return Image.fromarray(np.uint8(np.rint(smooth)))
    reach = int(np.ceil(_CUT * sigma))
    pixels = np.pad(shared_pixels(image), ((reach, reach), (reach, reach), (0, 0)), "symmetric")
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()

    def sums(length: int) -> Sums:
        tiled = np.broadcast_to(np.float32(weights), (length, len(weights)))
        return Sums(np.arange(length, dtype=np.int32), np.ascontiguousarray(tiled))

    return picture_of(resampled(pixels, sums(image.height), sums(image.width)))


def picture_of(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """RGB image of pixels [h, w, 4], of which the fourth value is left out."""
    height, width, _ = pixels.shape
    return Image.frombytes("RGB", (width, height), pixels.tobytes(), "raw", "RGBX")


def _hamming(length: int, size: int, begin: int, end: int) -> Sums:
    """Part [begin, end) of an axis of ``length`` pixels, resized to ``size``, as Pillow does it."""
    scale = length / size
    centres = (np.arange(begin, end) + 0.5) * scale
    first = np.maximum((centres - scale + 0.5).astype(np.int64), 0)
    behind = np.minimum((centres + scale + 0.5).astype(np.int64), length)
    taps = np.arange(int((behind - first).max()))
    places = first[:, None] + taps
    x = np.abs(places - centres[:, None] + 0.5) / scale
    weights = np.where(x < 1, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0.0)
    weights[places >= behind[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return Sums(first.astype(np.int32), weights.astype(np.float32))
