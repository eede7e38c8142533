"""MP4 files as a decoder reads them. The extra ``video`` is among ``dev``'s, so CI has it."""

from __future__ import annotations

import importlib.util
import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from restyle.core.errors import SpecError
from restyle.core.imaging.animating.animation import encode_animation
from restyle.core.imaging.animating.video import check_video, encode_mp4

av = pytest.importorskip("av", reason="the extra 'video' is not installed")

SIDE = 64


def ramps(count: int) -> list[Image.Image]:
    """Smooth pictures, no two alike, in colours: what halving the colours' resolution keeps."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    frames = []
    for index in range(count):
        turned = x * np.cos(index) + y * np.sin(index)
        channels = [np.cos(turned + phase) * 100 + 128 for phase in (0, 2, 4)]
        frames.append(Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)))
    return frames


def decoded(data: bytes) -> list[tuple[float, float, np.ndarray]]:
    """When each frame begins and how long it is shown, in seconds; and its pixels."""
    with av.open(io.BytesIO(data)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        return [
            (
                float(frame.pts * frame.time_base),
                float(frame.duration * frame.time_base),
                frame.to_ndarray(format="rgb24"),
            )
            for frame in container.decode(stream)
        ]


def test_frames_come_back_in_order_and_time() -> None:
    frames, milliseconds = ramps(5), [100, 200, 600, 20, 450]
    found = decoded(encode_mp4(frames, milliseconds))
    begins = np.cumsum([0, *milliseconds[:-1]]) / 1000
    np.testing.assert_allclose([start for start, _, _ in found], begins, atol=1e-4)
    np.testing.assert_allclose(
        [length for _, length, _ in found], np.array(milliseconds) / 1000, atol=1e-4
    )
    for (_, _, pixels), original in zip(found, frames, strict=True):
        difference = np.abs(pixels.astype(int) - np.asarray(original, int))
        assert difference.mean() < 2
        # No two frames are that much alike.
        assert difference.max() < 16


def test_odd_sides_are_made_even_and_small_ones_enlarged() -> None:
    frame = Image.new("RGB", (301, 257), "teal")
    ((_, length, pixels),) = decoded(encode_animation([frame], [Fraction(1, 2)], "MP4"))
    assert pixels.shape == (258, 302, 3)
    assert length == pytest.approx(0.5)
    assert np.abs(pixels.astype(int) - np.array([0, 128, 128])).max() <= 2
    ((_, _, small),) = decoded(encode_animation(ramps(1), [0.1], "MP4"))
    assert small.shape == (256, 256, 3)


def test_without_the_package_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_video("x.mp4")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"x\.mp4: .* pip install 'restyle-pipeline\[video\]'"):
        check_video("x.mp4")
