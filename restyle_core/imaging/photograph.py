"""A photograph with what belongs to it, so that a picture made from it can be given back as one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from restyle.core.imaging import colour, exif
from restyle.core.imaging.decoding import (
    MAX_PIXELS,
    load_whole,
    open_image,
    turned_upright,
    upright_rgb,
)
from restyle.core.imaging.png import encode_png

_XMP_ORIENTATION = re.compile(
    rb"(<tiff:Orientation>\s*|tiff:Orientation\s*=\s*[\"'])[2-8](?=\s*[<\"'])"
)


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph in its own colours.

    Attributes:
        pixels: upright, of mode ``RGB``, in the space of ``profile``.
        profile: its ICC profile; empty for sRGB.
        exif: as :func:`restyle.core.imaging.exif.exif_of` gives it.
        xmp: an XMP packet, or empty.
    """

    pixels: Image.Image
    profile: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""

    def in_its_colours(self, picture: Image.Image) -> Image.Image:
        """Convert an sRGB picture of mode ``RGB`` to the photograph's space."""
        transform = colour.from_srgb(self.profile) if self.profile else None
        if transform is None:
            return picture
        converted = ImageCms.applyTransform(picture, transform)
        assert converted is not None  # noqa: S101 (only in place would it be None)
        return converted

    def encoded(self, picture: Image.Image) -> bytes:
        """A picture that was made of :attr:`pixels` as PNG, with the photograph's profile and data.

        Orientation is 1, since the picture is upright; a thumbnail shows the picture itself.

        Args:
            picture: of mode ``RGB``, in the photograph's space.
        """
        pixels = np.asarray(picture)
        is_new = not np.array_equal(pixels, np.asarray(self.pixels))
        block = exif.for_picture(self.exif, picture, is_new=is_new) if self.exif else b""
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", self.xmp)
        return encode_png(pixels, profile=self.profile, exif=block, xmp=xmp)


def read_photograph(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Photograph:
    """Decode a photograph without converting its colours.

    What has no RGB profile of its own that is known in both directions (grey, CMYK, a scanner's)
    becomes sRGB, as :func:`restyle.core.imaging.decoding.decode_image` makes it, and so does what
    is transparent.

    Args:
        data: the bytes of one image file.
        max_pixels: the largest width times height that will be decoded.

    Raises:
        RejectError, MemoryError: as :func:`restyle.core.imaging.decoding.decode_image`.
    """
    image = load_whole(open_image(data, max_pixels), data)
    profile = image.info.get("icc_profile")
    xmp = image.info.get("xmp", b"")
    rest = {
        "exif": exif.exif_of(image),
        "xmp": xmp.encode() if isinstance(xmp, str) else xmp or b"",
    }
    is_plain = image.mode == "RGB" and not image.has_transparency_data
    if is_plain and isinstance(profile, bytes) and not colour.problem(image, profile):
        is_srgb = colour.read_profile(profile).to_srgb is None
        if is_srgb or colour.from_srgb(profile) is not None:
            pixels = turned_upright(image, image.copy())
            pixels.info.clear()
            return Photograph(pixels, profile, **rest)
    return Photograph(upright_rgb(image), **rest)
