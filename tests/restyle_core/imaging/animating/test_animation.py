"""Moving pictures as other programs read them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from restyle.core.imaging.animating.animation import encode_animation, enlarged

COLOURS = ("red", "green", "blue")


@pytest.mark.parametrize("kind", ["WEBP", "GIF"])
def test_frames_come_back_in_order_and_time(kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in COLOURS]
    moving = Image.open(io.BytesIO(encode_animation(frames, [0.1, 0.2, 0.6], kind)))
    assert moving.format == kind
    assert moving.size == (256, 256)
    assert moving.info["loop"] == 0
    durations = []
    for frame, original in zip(ImageSequence.Iterator(moving), frames, strict=True):
        shown = np.asarray(frame.convert("RGB"), int)[128, 128]
        assert np.abs(shown - np.asarray(original, int)[0, 0]).max() < 12
        durations.append(frame.info["duration"])
    assert durations == [100, 200, 600]


def test_one_frame_is_enough() -> None:
    picture = Image.open(io.BytesIO(encode_animation([Image.new("RGB", (300, 256))], [1], "GIF")))
    assert picture.size == (300, 256)


def test_small_frames_are_enlarged_whole_times() -> None:
    assert enlarged(Image.new("RGB", (64, 48))).size == (384, 288)
    assert enlarged(Image.new("RGB", (64, 48)), 48).size == (64, 48)
