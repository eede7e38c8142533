"""What reduces and blurs photographs for crops does what Pillow and scipy do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from restyle.core.faces import reduction
from restyle.core.faces.reduction import blurred, picture_of, reduced
from restyle.core.imaging.shared_pixels import shared_pixels


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(data.astronaut()).crop((3, 0, 503, 401))


def difference(one: Image.Image, other: Image.Image | np.ndarray) -> np.ndarray:
    return np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))


PARTS = {
    "whole": ((167, 134), (0, 0, 167, 134)),
    "a part inside": ((250, 200), (31, 17, 200, 180)),
    "a corner": ((100, 80), (60, 44, 100, 80)),
    "one pixel": ((125, 100), (124, 0, 125, 1)),
    "hardly smaller": ((499, 400), (0, 7, 499, 9)),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_that_of_pillows_whole(name: str, photo: Image.Image) -> None:
    size, part = PARTS[name]
    for exact, filtering in ((False, Image.Resampling.HAMMING), (True, Image.Resampling.LANCZOS)):
        made = reduced(photo, size, part, exact=exact)
        expected = photo.resize(size, filtering).crop(part)
        assert made.size == expected.size
        assert difference(made, expected).max() <= 1


def test_nothing_is_resampled_at_the_same_size(photo: Image.Image) -> None:
    part = (5, 6, 300, 200)
    assert not difference(reduced(photo, photo.size, part, exact=False), photo.crop(part)).any()


@pytest.mark.parametrize("sigma", [2.5, 4.0, 30.0])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_blur_is_scipys(
    sigma: float, compiled: bool, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(reduction, "why_unavailable", lambda: "asked for")
    expected = gaussian_filter(np.asarray(photo, np.float64), [sigma, sigma, 0])
    assert difference(blurred(photo, sigma), expected).max() < 1.2


def test_without_a_compiler_pillow_reduces(
    photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, part = PARTS["a part inside"]
    made = reduced(photo, size, part, exact=False)
    monkeypatch.setattr(reduction, "why_unavailable", lambda: "asked for")
    assert difference(reduced(photo, size, part, exact=False), made).max() <= 1


def test_a_picture_has_the_pixels(photo: Image.Image) -> None:
    assert not difference(
        picture_of(shared_pixels(photo)[10:200, 7:99]), photo.crop((7, 10, 99, 200))
    ).any()
