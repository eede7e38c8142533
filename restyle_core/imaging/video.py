"""Frames as an MP4 file, by PyAV, which brings its own ffmpeg."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from PIL import Image

from restyle.core.errors import SpecError

# One tick of the file's clock, so that any duration in milliseconds is exact.
_TICK = Fraction(1, 1000)

# Constant rate factor of H.264: pictures that cannot be told from their originals by eye.
_QUALITY = 12


def check_video(name: str) -> None:
    """Find out that an MP4 file could be written, before anything is computed for it.

    Raises:
        SpecError: the package is not installed.
    """
    if importlib.util.find_spec("av") is None:
        raise SpecError(
            f"{name}: .mp4 needs PyAV: pip install 'restyle-pipeline[video]', or write .webp, .gif"
        )


def encode_mp4(frames: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """Encode frames as H.264 in an MP4 file, in the form that every player and browser takes.

    Args:
        frames: RGB pictures of one size, at least one. An odd row or column at the end is repeated,
            for H.264 halves the colours' resolution.
        milliseconds: how long each is shown.

    Returns:
        The file.
    """
    import av

    target, packets = io.BytesIO(), []
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000, max(min(milliseconds), 1)))
        pixels = [_even(frame) for frame in frames]
        stream.height, stream.width = pixels[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TICK
        # Each frame before the next: no reordering, so that times are as they are given.
        stream.options = {"crf": str(_QUALITY), "bf": "0"}
        # Said in the file, and used: players guess the matrix by the picture's height otherwise.
        stream.codec_context.color_range = 1
        stream.codec_context.colorspace = 1
        starts = [sum(milliseconds[:index]) for index in range(len(pixels))]
        shown = dict(zip(starts, milliseconds, strict=True))
        for array, start in zip(pixels, starts, strict=True):
            frame = av.VideoFrame.from_ndarray(array, "rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = start, _TICK
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet in packets:
            # The last one's is guessed otherwise.
            packet.duration = shown[packet.pts or 0]
            container.mux(packet)
    return target.getvalue()


def _even(frame: Image.Image) -> np.ndarray:
    pixels = np.asarray(frame.convert("RGB"))
    return np.pad(pixels, ((0, frame.height % 2), (0, frame.width % 2), (0, 0)), "edge")
