"""Inputs that must end in ``rejects/``: one file for each way a picture can be unusable."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from recipes.samples import scenes
from recipes.samples.paint import Person, enlarge
from restyle.core.errors import RejectError, RejectReason
from restyle.core.imaging.decoding import MAX_PIXELS, decode_image

EXPECTED: dict[str, RejectReason | None] = {
    "empty.jpg": RejectReason.EMPTY,
    "truncated.jpg": RejectReason.TRUNCATED,
    "text.jpg": RejectReason.NOT_AN_IMAGE,
    "bomb.png": RejectReason.TOO_LARGE,
    "icon.png": RejectReason.TOO_SMALL,
    "animation.gif": RejectReason.ANIMATED,
    # Decodes well; only the search for faces rejects it.
    "landscape.jpg": None,
}
"""Each file and the reason decoding gives, None where it decodes."""


def make(first: Person, second: Person) -> dict[str, bytes]:
    """The files by name, each checked against :data:`EXPECTED`."""
    rng = np.random.default_rng(7)
    photo = _encoded(enlarge(first, 400), "JPEG", quality=84)
    frames = [enlarge(person, 96) for person in (first, second)]
    # Two colours deflate to next to nothing: 120 million pixels in a few kilobytes.
    side = int(MAX_PIXELS**0.5) + 100
    files = {
        "empty.jpg": b"",
        "truncated.jpg": photo[: len(photo) // 2],
        "text.jpg": b"This is a text file that somebody renamed.\n",
        "bomb.png": _encoded(Image.new("1", (side, side)), "PNG", optimize=True),
        "icon.png": _encoded(enlarge(first, 24), "PNG"),
        "animation.gif": _encoded(
            frames[0], "GIF", save_all=True, append_images=frames[1:], duration=400, loop=0
        ),
        "landscape.jpg": _encoded(scenes.landscape((640, 400), rng), "JPEG", quality=80),
    }
    for name, data in files.items():
        if _reason(data) != EXPECTED[name]:
            raise AssertionError(f"{name} decodes to {_reason(data)}, not {EXPECTED[name]}")
    return files


def _reason(data: bytes) -> RejectReason | None:
    try:
        decode_image(data)
    except RejectError as error:
        return error.reason
    return None


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
