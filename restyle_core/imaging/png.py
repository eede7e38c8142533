"""PNG encoding, an order of magnitude faster than Pillow.

Pillow tries every filter on every row and compresses with zlib: 70 to 170 ms for a megapixel face,
6% of the time of its inversion. One filter and ISA-L's compressor take 5 to 8 ms for a file of the
same size (up to 10% larger for noise).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {3: 2, 4: 6}
"""PNG's colour type by the number of channels."""
_UP = 2
"""Filter: difference of each byte to the one above."""
_LEVEL = 1


_XMP = b"XML:com.adobe.xmp\0\0\0\0\0"
"""Keyword and flags of an uncompressed text without language."""


def encode_png(
    pixels: npt.NDArray[np.uint8], *, profile: bytes = b"", exif: bytes = b"", xmp: bytes = b""
) -> bytes:
    """Encode a picture as PNG (https://www.w3.org/TR/png-3/).

    Args:
        pixels: [h, w, 3] RGB or [h, w, 4] RGBA, uint8, not empty.
        profile: ICC profile of the pixels; sRGB without one.
        exif: EXIF block from its TIFF header on.
        xmp: XMP packet.
    """
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return _SIGNATURE + b"".join(
        (
            # Bit depth, colour type, compression, filter method, interlacing.
            _chunk(
                b"IHDR",
                struct.pack(">2I5B", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0),
            ),
            _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)) if profile else b"",
            _chunk(b"eXIf", exif) if exif else b"",
            _chunk(b"iTXt", _XMP + xmp) if xmp else b"",
            _chunk(b"IDAT", isal_zlib.compress(filtered, _LEVEL)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
