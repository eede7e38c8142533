"""The scan of dlib's pyramid finds what dlib finds; dlib itself is the definition."""

from __future__ import annotations

import itertools
from pathlib import Path

import dlib
import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data

from restyle.core.faces.detection import detect
from restyle.core.faces.hog import search
from restyle.core.faces.hog.pyramid import level_sizes
from restyle.core.faces.hog.search import find_all, find_exactly, pixels_of
from restyle.core.imaging.decoding import decode_image
from restyle.kernels.choice import VARIABLE

Found = list[tuple[tuple[int, int, int, int], float]]


def by_dlib(image: Image.Image) -> Found:
    detector = dlib.get_frontal_face_detector()
    boxes, scores, _ = detector.run(np.asarray(image), 1, 0.0)
    return sorted(
        ((box.left(), box.top(), box.right(), box.bottom()), score)
        for box, score in zip(boxes, scores, strict=True)
    )


def same(found: Found, expected: Found) -> None:
    assert [box for box, _ in sorted(found)] == [box for box, _ in expected]
    scores = [[score for _, score in each] for each in (sorted(found), expected)]
    # Sums of many lengths differ in their last bits, and flat cells amplify them.
    np.testing.assert_allclose(*scores, atol=5e-3)


@pytest.fixture(scope="module")
def head(photos: Path) -> Image.Image:
    photo = decode_image((photos / "smile.jpg").read_bytes())
    ((left, top, right, bottom), _), *_ = by_dlib(photo)
    side = right - left
    return photo.crop((left - side, top - side, right + side, bottom + side))


def scene(size: tuple[int, int], head: Image.Image, *heads: tuple[int, int, int]) -> Image.Image:
    """Heads, three times as wide as their boxes, of a side at a place on a smooth ground."""
    ground = Image.linear_gradient("L").resize(size).convert("RGB").point(lambda v: 90 + v // 4)
    for side, left, top in heads:
        ground.paste(head.resize((side, side), Image.Resampling.LANCZOS), (left, top))
    return ground


SAMPLES = ["smile.jpg", "two friends.jpg", "video call.jpg", "garden.jpg", "party.webp"]


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_give_the_boxes_of_dlib(name: str, photos: Path) -> None:
    photo = decode_image((photos / name).read_bytes())
    expected = by_dlib(photo)
    assert expected
    same(find_all(photo), expected)
    same(find_exactly(photo), expected)


SCENES = {
    "odd sides": ((677, 511), (301, 250, 111)),
    "a tall strip": ((303, 1203), (240, 30, 900), (130, 100, 200)),
    "cut off at the left": ((500, 400), (300, -60, 50)),
    "cut off below": ((400, 400), (300, 50, 170)),
    "cut off at the corner": ((400, 360), (320, 140, -50)),
    "several sizes": ((900, 700), (480, 20, 100), (260, 560, 30), (120, 600, 500), (130, 760, 400)),
    "smaller than the window": ((70, 66), (60, 3, 2)),
    "one level": ((33, 32), (32, 0, 0)),
}


@pytest.mark.parametrize("name", SCENES)
def test_scenes_give_the_boxes_of_dlib(name: str, head: Image.Image) -> None:
    size, *heads = SCENES[name]
    photo = scene(size, head, *heads)
    same(find_all(photo), by_dlib(photo))


def test_turned_dark_and_flat_pictures_give_the_boxes_of_dlib() -> None:
    astronaut = Image.fromarray(data.astronaut())
    pictures = [
        astronaut.rotate(25, Image.Resampling.BICUBIC, fillcolor="white"),
        astronaut.point(lambda value: value // 6),
        ImageOps.posterize(astronaut, 2),
        ImageOps.mirror(astronaut),
        ImageOps.grayscale(astronaut).convert("RGB"),
        Image.new("RGB", (300, 200), (200, 199, 17)),
    ]
    expected = [by_dlib(picture) for picture in pictures]
    assert sum(map(bool, expected)) >= 4
    for picture, boxes in zip(pictures, expected, strict=True):
        same(find_all(picture), boxes)


def test_noise_has_the_hits_of_dlib_far_below_the_threshold() -> None:
    """Every window of every level is scored: hits in noise lie anywhere, also at the edges."""
    noise = np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((420, 300), Image.Resampling.BICUBIC)
    boxes, scores, _ = dlib.get_frontal_face_detector().run(np.asarray(picture), 1, -1.6)
    assert len(boxes) > 3
    expected = sorted(
        ((box.left(), box.top(), box.right(), box.bottom()), score)
        for box, score in zip(boxes, scores, strict=True)
    )
    same(search.find_all(picture, margin=-1.6), expected)


@pytest.mark.parametrize("size", [(320, 240), (241, 777), (64, 64), (33, 32), (2000, 90)])
def test_sizes_of_levels_follow_from_the_steps(size: tuple[int, int]) -> None:
    sizes = level_sizes(size)
    assert sizes[0] == (2 * size[0] + 2, 2 * size[1] + 1)
    for before, after in itertools.pairwise(sizes):
        assert after == (before[0] * 5 // 6, before[1] * 5 // 6)
    assert min(sizes[-1]) < 80


def test_exact_is_the_same_by_dlib_and_by_rows(
    head: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = scene((900, 700), head, (480, 20, 100), (260, 560, 30), (120, 600, 500))
    expected = find_exactly(photo)
    assert len(expected) == 3
    monkeypatch.setattr(search, "_MAX_PIXELS_OF_DLIB", 1000)
    same(find_exactly(photo), sorted(expected))


def test_without_a_compiler_dlib_searches(
    head: Image.Image, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    photo = scene((400, 360), head, (300, 20, 20))
    expected = by_dlib(photo)
    monkeypatch.setenv(VARIABLE, "reference")
    search._can_scan.cache_clear()
    try:
        assert sorted(find_all(photo)) == expected
    finally:
        search._can_scan.cache_clear()
    assert "slower: plain operators are asked for" in caplog.text


def test_pixels_are_those_of_the_image(head: Image.Image) -> None:
    tall = head.resize((40, 700))
    assert np.array_equal(pixels_of(tall), np.asarray(tall))


def test_faces_come_largest_first(head: Image.Image) -> None:
    photo = scene((900, 700), head, (260, 560, 30), (480, 20, 100), (120, 600, 500))
    found = detect(photo)
    assert [face.area for face in found] == sorted((face.area for face in found), reverse=True)
    assert {face.detector for face in found} == {"hog"}
