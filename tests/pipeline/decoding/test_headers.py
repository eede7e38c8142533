"""Megapixels by the headers of files, whatever these hold."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from restyle.pipeline.decoding import headers
from restyle.pipeline.decoding.headers import megapixels_of


def test_megapixels_of_photographs_and_of_what_is_none(photos: Path) -> None:
    target = io.BytesIO()
    Image.new("RGB", (2000, 1500)).save(target, "JPEG")
    names = ["smile.jpg", "call.webp", "unusable/text.jpg", "unusable/empty.jpg"]
    files = [target.getvalue(), *((photos / name).read_bytes() for name in names)]
    found = list(megapixels_of([*files, target.getvalue()]))
    assert found[0] == found[-1] == 3.0
    for name, pixels in zip(names[:2], found[1:3], strict=True):
        with Image.open(photos / name) as image:
            assert pixels == image.width * image.height / 1e6
    assert found[3:5] == [None, None]


def test_a_file_that_ends_the_child_costs_itself_alone(photos: Path) -> None:
    data = (photos / "smile.jpg").read_bytes()
    running = megapixels_of(iter_killing(data))
    assert next(running) is not None
    assert next(running) is None
    assert next(running) is not None
    assert list(running) == []


def iter_killing(data: bytes):  # type: ignore[no-untyped-def]
    """Yield an image three times, and kill the child before the second."""
    import os
    import signal

    made = []
    real = headers.ChildProcess

    class Seen(real):  # type: ignore[misc, valid-type]
        def __init__(self, *words: object) -> None:
            super().__init__(*words)
            made.append(self)

    headers.ChildProcess = Seen  # type: ignore[misc]
    try:
        yield data
        os.kill(made[0]._process.pid, signal.SIGKILL)
        made[0]._process.wait()
        yield data
        yield data
    finally:
        headers.ChildProcess = real  # type: ignore[misc]
