"""Photographs with colour profile and metadata, for edited pictures that keep both."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from restyle.core.imaging import colour, exif
from restyle.core.imaging.decoding import MAX_PIXELS, load_whole, open_image
from restyle.core.imaging.png import encode_png
from restyle.core.imaging.upright import turned_upright, upright_rgb

_XMP_ORIENTATION = re.compile(
    rb"(<tiff:Orientation>\s*|tiff:Orientation\s*=\s*[\"'])[2-8](?=\s*[<\"'])"
)


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph in its own colours.

    Attributes:
        pixels: upright, of mode ``RGB``, in the space of ``profile``.
        profile: its ICC profile; empty for sRGB.
        exif: from :func:`restyle.core.imaging.exif.exif_of`.
        xmp: an XMP packet, or empty.
        alpha: its transparency, upright, of mode ``L``; None for an opaque one.
    """

    pixels: Image.Image
    profile: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    alpha: Image.Image | None = None

    def in_its_colours(self, picture: Image.Image) -> Image.Image:
        """Convert an sRGB picture of mode ``RGB`` to the photograph's space."""
        transform = colour.from_srgb(self.profile) if self.profile else None
        if transform is None:
            return picture
        converted = ImageCms.applyTransform(picture, transform)
        assert converted is not None  # noqa: S101 (only in place would it be None)
        return converted

    def encoded(self, picture: Image.Image) -> bytes:
        """Encode an edited picture as PNG with the photograph's profile and metadata.

        The orientation is 1, because the picture is upright; a thumbnail is replaced. A
        transparent photograph keeps its transparency.

        Args:
            picture: of mode ``RGB``, in the photograph's space.
        """
        pixels = np.asarray(picture)
        is_new = not np.array_equal(pixels, np.asarray(self.pixels))
        block = exif.for_picture(self.exif, picture, is_new=is_new) if self.exif else b""
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", self.xmp)
        if self.alpha is not None:
            pixels = np.dstack([pixels, np.asarray(self.alpha)])
        return encode_png(pixels, profile=self.profile, exif=block, xmp=xmp)


def read_photograph(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Photograph:
    """Decode a photograph without converting its colours.

    Images without a two-way RGB profile (grey, CMYK, scanners) are converted to sRGB as by
    :func:`restyle.core.imaging.decoding.decode_image`, and composed over white where transparent.

    Args:
        data: the bytes of one image file.
        max_pixels: limit for width times height.

    Raises:
        RejectError, MemoryError: as :func:`restyle.core.imaging.decoding.decode_image`.
    """
    image = load_whole(open_image(data, max_pixels), data)
    profile = image.info.get("icc_profile")
    xmp = image.info.get("xmp") or b""
    is_two_way = _is_two_way(image, profile)
    alpha = None
    if is_two_way and image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        alpha = turned_upright(image, with_alpha.getchannel("A"))
        pixels = turned_upright(image, with_alpha.convert("RGB"))
    elif is_two_way and image.mode == "RGB":
        pixels = turned_upright(image, image.copy())
        pixels.info.clear()
    else:
        pixels, profile = upright_rgb(image), b""
    return Photograph(
        pixels,
        profile or b"",
        exif.exif_of(image),
        xmp.encode() if isinstance(xmp, str) else xmp,
        alpha,
    )


def _is_two_way(image: Image.Image, profile: object) -> bool:
    """Whether colours can be converted to sRGB and back; without a profile they are sRGB."""
    if not isinstance(profile, bytes) or not profile:
        return "gamma" not in image.info
    known = colour.read_profile(profile)
    return (
        not colour.problem(image, profile)
        and known.mode == "RGB"
        and (known.to_srgb is None or colour.from_srgb(profile) is not None)
    )
