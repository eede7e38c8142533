"""Pasting a face back into the photograph that it was cropped from.

The inverse of the alignment transforms the face back, and a soft mask blends it with the
photograph. Outside of the mask no pixel of the photograph changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.errors import SpecError
from restyle.core.faces.alignment import quad_to_crop
from restyle.core.faces.landmarks import FloatArray

FEATHER = 0.25
"""Share of the distance from the mask's edge to its centre over which it rises to 1."""

Pixels = npt.NDArray[np.float32]


def paste_back(
    photo: Image.Image,
    face: Image.Image,
    quad: FloatArray,
    *,
    original: Image.Image | None = None,
    feather: float = FEATHER,
) -> Image.Image:
    """Paste a face into a photograph.

    Args:
        photo: upright RGB, as :func:`restyle.core.imaging.decoding.decode_image` returns it, or
            in its own colours (:class:`restyle.core.imaging.photograph.Photograph`).
        face: RGB in the same colours, of any size; replaces the crop.
        quad: [4, 2] corners of the crop in the photograph's pixels, as in ``latents/``.
        original: the face before editing. If given, only the difference of the two is added to the
            photograph, which keeps detail that a small model does not render.
        feather: see :data:`FEATHER`.

    Returns:
        A new picture of the photograph's size that equals the photograph outside of the quad.

    Raises:
        SpecError: the feather is outside of (0, 1].
    """
    if not 0 < feather <= 1:
        raise SpecError(f"feather is {feather}; above 0 and up to 1 makes sense")
    result = photo.copy()
    box = _bounds(quad, photo.size)
    if box is None:
        return result
    part = photo.crop(box)
    mask = soft_mask(quad, box, feather)[..., None]
    under = np.asarray(part, dtype=np.float32)
    over = _warped(face, quad, box)
    if original is not None:
        over = under + over - _warped(original, quad, box)
    blended = under + mask * (over - under)
    pixels = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    result.paste(Image.fromarray(pixels), box[:2])
    return result


def soft_mask(quad: FloatArray, box: tuple[int, int, int, int], feather: float = FEATHER) -> Pixels:
    """Weight of the face in each pixel of a photograph.

    Args:
        quad: [4, 2] corners of the crop in the photograph's pixels.
        box: left, top, right, bottom of the region in pixels.
        feather: see :data:`FEATHER`.

    Returns:
        [height, width] float32: 1 in the centre of the quad, falling smoothly to 0 at the edge of
        the largest inscribed superellipse.
    """
    left, top, right, bottom = box
    matrix = quad_to_crop(quad, 1)
    x = np.arange(left, right, dtype=np.float64) + 0.5
    y = np.arange(top, bottom, dtype=np.float64)[:, None] + 0.5
    across, down = (2 * (row[0] * x + row[1] * y + row[2]) - 1 for row in matrix)
    inside = 1 - (across**4 + down**4) ** 0.25
    rise = np.clip(inside / feather, 0, 1)
    mask: Pixels = (rise * rise * (3 - 2 * rise)).astype(np.float32)
    return mask


def _bounds(quad: FloatArray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Bounding box of the quad within the photograph; None if they do not overlap."""
    corners = quad + 0.5
    left, top = (max(int(edge), 0) for edge in np.floor(corners.min(axis=0)))
    right, bottom = (
        min(int(edge), side) for edge, side in zip(np.ceil(corners.max(axis=0)), size, strict=True)
    )
    return (left, top, right, bottom) if left < right and top < bottom else None


def _warped(face: Image.Image, quad: FloatArray, box: tuple[int, int, int, int]) -> Pixels:
    """The face transformed to the photograph's box: [height, width, 3], undefined outside."""
    side = float(np.hypot(*(quad[3] - quad[0])))
    if face.width > 2 * side:
        # Reduced first, because interpolation would alias.
        reduced = max(1, round(side))
        face = face.resize((reduced, reduced), Image.Resampling.LANCZOS)
    pixels = np.pad(np.asarray(face, dtype=np.float32), ((1, 1), (1, 1), (0, 0)), "edge")
    matrix = quad_to_crop(quad, 1) * [[face.width], [face.height]]
    # Relative to the box, and to the padding of one pixel.
    offset = matrix[:, :2] @ box[:2] + matrix[:, 2] + 1
    (a, b), (d, e) = matrix[:, :2]
    data = (a, b, offset[0], d, e, offset[1])
    size = (box[2] - box[0], box[3] - box[1])
    bands = [
        Image.fromarray(np.ascontiguousarray(pixels[..., band])).transform(
            size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC
        )
        for band in range(3)
    ]
    return np.stack([np.asarray(band, dtype=np.float32) for band in bands], axis=-1)
