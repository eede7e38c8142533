"""Comparison of two ways of alignment: pairs, shares and rates against made-up photographs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from restyle.pipeline.decoding import comparison
from restyle.pipeline.decoding.comparison import Compared, Run, agreement, compare, speeds
from restyle.pipeline.decoding.crops import CropSettings, DecodedCrop, read_crops
from restyle.pipeline.decoding.published import published_crops

SETTINGS = CropSettings(align=True, faces="all", size=(8, 8), detector="hog")


def crop(x: float, side: float, grey: int) -> DecodedCrop:
    """A face whose square lies at x, 0."""
    quad = np.array([(x, 0), (x, side), (x + side, side), (x + side, 0)], float)
    return DecodedCrop(np.full((8, 8, 3), grey, np.uint8), quad)


def png(width: int, height: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width, height)).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[DecodedCrop]]:
    """Crops of each detector instead of real ones."""
    crops: dict[str, list[DecodedCrop]] = {}
    monkeypatch.setattr(comparison, "read_crops", lambda *_: crops["hog"])
    monkeypatch.setattr(comparison, "published_crops", lambda *_: crops["exact"])
    return crops


def compared(
    made: dict[str, list[DecodedCrop]], exact: Sequence[DecodedCrop], fast: Sequence[DecodedCrop]
) -> Compared:
    made.update(exact=list(exact), hog=list(fast))
    found = compare("a.png", png(1000, 1000), SETTINGS)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fast", "same"),
    [
        ([crop(0, 100, 50)], 1),
        ([crop(20, 100, 50)], 1),
        ([crop(40, 100, 50)], 0),
        ([crop(-15, 130, 50)], 1),
        ([crop(-50, 200, 50)], 0),
        ([crop(0, 100, 50), crop(5, 100, 50)], 1),
        ([], 0),
    ],
)
def test_faces_are_the_same_where_their_squares_are(
    made: dict[str, list[DecodedCrop]], fast: list[DecodedCrop], same: int
) -> None:
    assert compared(made, [crop(0, 100, 50)], fast).same == same


def test_shares_count_faces_of_all_photographs(made: dict[str, list[DecodedCrop]]) -> None:
    exact = [crop(0, 100, 50), crop(300, 100, 50), crop(600, 100, 50)]
    first = compared(made, exact, [crop(600, 100, 48), crop(0, 100, 51)])
    second = compared(made, exact[:1], [crop(0, 100, 60), crop(900, 50, 0)])
    assert sorted(first.differences) == [1, 2]
    found = agreement([first, second])
    assert (found.exact, found.fast, found.same) == (4, 4, 3)
    assert found.close == pytest.approx(1 / 3)
    assert found.near == pytest.approx(2 / 3)
    assert found.worst == (10, "a.png")
    assert (len(found.missed), len(found.added)) == (1, 1)


def test_rates_are_of_all_photographs_of_a_class_together() -> None:
    def photograph(megapixels: float, exact: float, fast: float, decode: float) -> Compared:
        return Compared(
            "x", megapixels, Run([], exact, {"decode": decode}), Run([], fast, {"crop": 0.25}), 0
        )

    small, large = speeds(
        [photograph(4, 8, 1, 0.5), photograph(1, 1, 0.5, 0.1), photograph(4, 4, 2, 0.5)]
    )
    assert (small.megapixels, small.photographs, large.photographs) == (1, 1, 2)
    assert large.exact == pytest.approx(2 / 12)
    assert large.fast == pytest.approx(2 / 3)
    assert large.ratio == pytest.approx(4)
    assert large.decoding == pytest.approx(2)
    assert large.stages["decode"] == pytest.approx((500, 0))
    assert large.stages["crop"] == pytest.approx((0, 250))


@pytest.mark.parametrize(
    ("size", "megapixels"),
    [((1024, 1024), 1), ((2048, 2048), 4), ((4000, 3000), 12), ((640, 480), 0.25)],
)
def test_class_is_the_nearest(size: tuple[int, int], megapixels: float) -> None:
    assert comparison.megapixel_class(png(*size)) == megapixels


def test_what_is_no_image_is_left_out(photos: Path) -> None:
    assert compare("text", b"text", SETTINGS) is None
    assert compare("cut", (photos / "unusable/truncated.jpg").read_bytes(), SETTINGS) is None


@pytest.mark.parametrize("name", ["two friends.jpg", "smile.jpg", "video call.jpg"])
@pytest.mark.parametrize("faces", ["largest", "all"])
def test_recipe_is_dlib_on_the_whole_photograph(
    photos: Path, name: str, faces: Literal["largest", "all"]
) -> None:
    data = (photos / name).read_bytes()
    settings = CropSettings(align=True, faces=faces, size=(64, 64), detector="exact")
    recipe, ours = published_crops(data, settings), read_crops(data, settings)
    assert len(recipe) == len(ours) >= 1
    for one, other in zip(recipe, ours, strict=True):
        assert np.array_equal(one.quad, other.quad)
        assert np.array_equal(one.pixels, other.pixels)
