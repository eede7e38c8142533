"""The array of an image's memory has its pixels, and keeps them."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from PIL import Image

from restyle.core.imaging.shared_pixels import shared_pixels


def noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


# Pillow holds pixels above 16 MB in several blocks, of which no array can be made.
@pytest.mark.parametrize("size", [(1, 1), (301, 200), (2048, 2048), (2500, 1800)])
def test_pixels_are_those_of_the_image(size: tuple[int, int]) -> None:
    expected = noise(size)
    pixels = shared_pixels(Image.fromarray(expected))
    assert pixels.shape == (size[1], size[0], 4)
    assert np.array_equal(pixels[..., :3], expected)


def test_they_outlive_the_image() -> None:
    expected = noise((640, 480))
    image = Image.fromarray(expected)
    pixels = shared_pixels(image)[100:]
    del image
    gc.collect()
    others = [Image.new("RGB", (640, 480), (1, 2, 3)) for _ in range(8)]
    assert np.array_equal(pixels[..., :3], expected[100:])
    assert len(others) == 8


def test_small_images_are_not_copied() -> None:
    image = Image.new("RGB", (100, 80))
    pixels = shared_pixels(image)
    image.putpixel((7, 5), (11, 12, 13))
    assert pixels[5, 7, :3].tolist() == [11, 12, 13]
    assert not pixels.flags.writeable
