"""What is written here is what others read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from restyle.core.imaging.png import encode_png

SAMPLES = Path(__file__).parents[3] / "samples" / "photos"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    order=st.sampled_from(["rows", "planes", "turned"]),
    levels=st.sampled_from([1, 4, 256]),
)
def test_pillow_reads_the_same_pixels(size: tuple[int, int], order: str, levels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, levels, (*size, 3), dtype=np.uint8)
    if order == "planes":
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    elif order == "turned":
        pixels = pixels[::-1, ::-1]
    content = encode_png(pixels)
    with Image.open(io.BytesIO(content)) as picture:
        # The checksums of all chunks.
        picture.verify()
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(picture), pixels)


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.jpg"))[:3], ids=lambda path: path.stem)
def test_a_photograph_is_hardly_larger_than_pillow_makes_it(path: Path) -> None:
    with Image.open(path) as picture:
        photo = picture.convert("RGB")
    theirs = io.BytesIO()
    photo.save(theirs, "PNG")
    assert len(encode_png(np.asarray(photo))) < 1.25 * len(theirs.getvalue())
