"""Encoding of frames as animated WebP or GIF (Pillow) or MP4 (PyAV)."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from restyle.core.imaging.animating.video import encode_mp4

FORMATS = {".webp": "WEBP", ".gif": "GIF", ".mp4": "MP4"}
"""Formats by file name suffix."""

LEAST_SIDE = 256
"""Smaller frames are enlarged to this side, because viewers do not enlarge them."""


def encode_animation(frames: Sequence[Image.Image], durations: Sequence[float], kind: str) -> bytes:
    """Encode frames as an endless loop, where the format supports it.

    Args:
        frames: RGB pictures of one size, at least one.
        durations: seconds of each frame.
        kind: one of the values of :data:`FORMATS`.

    Returns:
        The encoded file.
    """
    first, *rest = [enlarged(frame) for frame in frames]
    milliseconds = [max(20, round(1000 * each)) for each in durations]
    if kind == "MP4":
        return encode_mp4([first, *rest], milliseconds)
    target = io.BytesIO()
    options = {"quality": 90, "method": 4} if kind == "WEBP" else {"disposal": 1}
    first.save(
        target, kind, save_all=True, append_images=rest, duration=milliseconds, loop=0, **options
    )
    return target.getvalue()


def enlarged(frame: Image.Image, least: int = LEAST_SIDE) -> Image.Image:
    """Enlarge a frame by a whole factor so that its shorter side has at least ``least`` pixels."""
    factor = -(-least // min(frame.size))
    if factor <= 1:
        return frame
    return frame.resize((frame.width * factor, frame.height * factor), Image.Resampling.BICUBIC)
