"""MP4 encoding by PyAV, which includes ffmpeg."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from PIL import Image

from restyle.core.errors import SpecError

# Time base of the file, so that durations in milliseconds are exact.
_TICK = Fraction(1, 1000)

# Constant rate factor of H.264, visually lossless.
_QUALITY = 12


def check_video(name: str) -> None:
    """Check that MP4 files can be written, for calls before any computation.

    Raises:
        SpecError: PyAV is not installed.
    """
    if importlib.util.find_spec("av") is None:
        raise SpecError(
            f"{name}: .mp4 needs PyAV: pip install 'restyle-pipeline[video]', or write .webp, .gif"
        )


def encode_mp4(frames: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """Encode frames as H.264 in an MP4 file with 4:2:0 colour, which all players support.

    Args:
        frames: RGB pictures of one size, at least one. The last row or column of an odd size is
            repeated, because 4:2:0 halves the resolution of colours.
        milliseconds: duration of each frame.

    Returns:
        The encoded file.
    """
    import av

    target, packets = io.BytesIO(), []
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000, max(min(milliseconds), 1)))
        pixels = [_even(frame) for frame in frames]
        stream.height, stream.width = pixels[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TICK
        # No B-frames, so that frames keep their order and times.
        stream.options = {"crf": str(_QUALITY), "bf": "0"}
        # BT.709 is declared, because players otherwise guess the matrix from the picture's height.
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
            # Otherwise the duration of the last frame is guessed.
            packet.duration = shown[packet.pts or 0]
            container.mux(packet)
    return target.getvalue()


def _even(frame: Image.Image) -> np.ndarray:
    pixels = np.asarray(frame.convert("RGB"))
    return np.pad(pixels, ((0, frame.height % 2), (0, frame.width % 2), (0, 0)), "edge")
