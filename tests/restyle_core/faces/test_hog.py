"""The scan of dlib's pyramid finds what dlib finds; dlib itself is the definition."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import dlib
import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data

from restyle.core.faces.alignment import align_faces, crop_quad, face_quad
from restyle.core.faces.detection import detect
from restyle.core.faces.hog import search
from restyle.core.faces.hog.filters import frontal_filters
from restyle.core.faces.hog.levels import PhotographLevels
from restyle.core.faces.hog.pyramid import level_sizes
from restyle.core.faces.hog.search import find_all, find_exactly, pixels_of
from restyle.core.faces.hog.uncertain import UNCERTAIN
from restyle.core.faces.landmarks import model_files
from restyle.core.imaging.decoding import decode_image
from restyle.core.imaging.shared_pixels import shared_pixels
from restyle.kernels.choice import VARIABLE
from restyle.kernels.hog import Levels, Part, halved, level_of, scan

Found = list[tuple[tuple[int, int, int, int], float]]


def by_dlib(image: Image.Image) -> Found:
    detector = dlib.get_frontal_face_detector()
    boxes, scores, _ = detector.run(np.asarray(image), 1, 0.0)
    return sorted(
        ((box.left(), box.top(), box.right(), box.bottom()), score)
        for box, score in zip(boxes, scores, strict=True)
    )


def area(box: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def same(found: Found, expected: Found, scores_within: float = 5e-3) -> None:
    assert [box for box, _ in sorted(found)] == [box for box, _ in expected]
    scores = [[score for _, score in each] for each in (sorted(found), expected)]
    # Sums of many lengths differ in their last bits, and flat cells amplify them.
    np.testing.assert_allclose(*scores, atol=scores_within)


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


LARGEST = {
    "one": ((1500, 1100), (900, 500, 100)),
    "small in a large photograph": ((2100, 1500), (150, 1700, 1200)),
    "with smaller ones": ((1400, 1000), (210, 1100, 30), (600, 60, 200), (200, 900, 700)),
    "two of a size": ((1600, 900), (500, 60, 200), (500, 900, 230)),
    "cut off": ((1200, 900), (800, -250, 100)),
    "none": ((900, 700),),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_face_is_that_of_dlib(name: str, head: Image.Image) -> None:
    size, *heads = LARGEST[name]
    photo = scene(size, head, *heads)
    expected = sorted(by_dlib(photo), key=lambda face: (-area(face[0]), face[0]))[:1]
    found = [(face.box, face.score) for face in detect(photo, "largest")][:1]
    assert bool(found) == (name != "none")
    same(found, expected, scores_within=UNCERTAIN)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_largest_face_of_an_enlarged_sample_is_that_of_dlib(name: str, photos: Path) -> None:
    photo = decode_image((photos / name).read_bytes())
    photo = photo.resize((1100, 1100 * photo.height // photo.width), Image.Resampling.BICUBIC)
    expected = sorted(by_dlib(photo), key=lambda face: (-area(face[0]), face[0]))[:1]
    found = [(face.box, face.score) for face in detect(photo, "largest")][:1]
    same(found, expected, scores_within=UNCERTAIN)


def test_a_smaller_face_ends_no_search_for_a_larger_one(
    head: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A face on levels that are not yet scanned as a whole does not count."""
    photo = scene((1400, 1000), head, (210, 1100, 30), (600, 60, 200))
    scanned = PhotographLevels.scanned
    around_the_small_face = (1100, 30, 1310, 240)
    given = []

    def first_wrong(
        self: PhotographLevels, levels: range, margin: float, *rest: Any, **more: Any
    ) -> Any:
        if given:
            return scanned(self, levels, margin, *rest, **more)
        given.append(scanned(self, range(3, 6), margin, around_the_small_face))
        return given[0]

    monkeypatch.setattr(PhotographLevels, "scanned", first_wrong)
    (box, _), *_ = sorted(search.find_largest(photo), key=lambda face: -area(face[0]))
    assert len(given[0])
    assert box == max(by_dlib(photo), key=lambda face: area(face[0]))[0]


@pytest.mark.parametrize("level", [5, 9, 12])
def test_levels_in_one_step_are_those_of_the_chain(level: int) -> None:
    """Each level of the chain is made of the one before, and rounded down, as dlib does it."""
    photo = Image.fromarray(data.astronaut())
    pixels = np.asarray(photo, np.float64)
    sizes = level_sizes(photo.size)
    for size in sizes[: level + 1]:
        pixels = np.floor(stretched(stretched(pixels, size[1]).swapaxes(0, 1), size[0]) + 1e-6)
        pixels = pixels.swapaxes(0, 1)
    whole = Part(0, 0, *sizes[level])
    copies = {1: shared_pixels(photo)}
    if level >= 9:
        copies[2] = halved(copies[1])
    for reduction, copy in copies.items():
        made = level_of(copy, reduction, photo.size, sizes[0], level, whole)[..., :3]
        difference = made - pixels
        # What rounding thirteen times differs by; half a pixel aside, it would be four or more.
        assert difference.std() < 1.5
        assert abs(difference.mean()) < 0.6


def stretched(pixels: np.ndarray, size: int) -> np.ndarray:
    """Rows interpolated to another number, the first and the last on themselves."""
    places = np.arange(size) * (len(pixels) - 1) / (size - 1)
    above = np.minimum(places.astype(int), len(pixels) - 2)
    share = (places - above)[:, None, None]
    return pixels[above] * (1 - share) + pixels[above + 1] * share


def test_a_part_of_a_level_is_that_of_the_whole() -> None:
    photo = Image.fromarray(data.astronaut())
    pixels, sizes = shared_pixels(photo), level_sizes(photo.size)
    whole = level_of(pixels, 1, photo.size, sizes[0], 7, Part(0, 0, *sizes[7]))
    part = level_of(pixels, 1, photo.size, sizes[0], 7, Part(40, 64, 131, 200))
    assert np.array_equal(part, whole[64:200, 40:131])


@pytest.mark.parametrize("name", SAMPLES)
def test_hits_are_settled_as_the_whole_scan_scores_them(name: str, photos: Path) -> None:
    photo = decode_image((photos / name).read_bytes())
    levels = PhotographLevels(photo)
    first = max(levels.last - 8, 0)
    hits = levels.scanned(range(first, levels.last + 1), -1.0)
    whole = Levels(0, levels.last, 0, levels.sizes[0], Part(0, 0, *levels.sizes[0]))
    scored = scan(levels.pixels, frontal_filters()[0], whole, margin=-2.0)
    names = ["level", "x", "y", "filter"]
    expected = {hit[names].item(): hit["score"] for hit in scored}
    chosen = hits[np.argsort(-hits["score"])][:6]
    assert len(chosen)
    for group in (chosen, chosen[:1], chosen[-2:]):
        settled = levels.exactly(group)
        assert settled[names].tolist() == group[names].tolist()
        exact = [expected[hit[names].item()] for hit in group]
        np.testing.assert_allclose(settled["score"], exact, atol=5e-3)
        np.testing.assert_allclose(group["score"], exact, atol=2 * UNCERTAIN)


def test_windows_that_a_part_lacks_are_scored_in_the_whole(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = decode_image((photos / "smile.jpg").read_bytes())
    levels = PhotographLevels(photo)
    hits = levels.scanned(range(max(levels.last - 8, 0), levels.last + 1), -1.0)
    chosen = hits[np.argsort(-hits["score"])][:3]
    expected = levels.exactly(chosen)
    nowhere = chosen[:1].copy()
    nowhere["x"] = 10_000
    # A part at the edge of the photograph, which holds none of the windows.
    monkeypatch.setattr(
        "restyle.core.faces.hog.levels.around_windows", lambda *_: (0, 0, photo.width // 2, 200)
    )
    settled = levels.exactly(np.concatenate([chosen, nowhere]))
    assert np.isfinite(expected["score"]).all()
    np.testing.assert_allclose(settled["score"][:3], expected["score"], atol=5e-3)
    assert settled["score"][3] == -np.inf


def test_close_scores_are_settled(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong by less than the margin, scores do not change which box is found."""
    photo = decode_image((photos / "smile.jpg").read_bytes())
    expected = max(by_dlib(photo), key=lambda face: area(face[0]))[0]
    scanned = PhotographLevels.scanned
    best = scanned(PhotographLevels(photo), range(4, 20), 0.0)["score"].max()

    def level_scores(self: PhotographLevels, *arguments: Any, **more: Any) -> Any:
        hits = scanned(self, *arguments, **more)
        hits["score"][hits["score"] > best / 2] = best
        return hits

    monkeypatch.setattr(PhotographLevels, "scanned", level_scores)
    (box, _), *_ = sorted(search.find_largest(photo), key=lambda face: -area(face[0]))
    assert box == expected


@pytest.mark.parametrize("size", [(970, 2204), (1434, 2333)])
def test_crops_of_tall_photographs_are_those_of_the_recipe(
    size: tuple[int, int], head: Image.Image
) -> None:
    """Faces of these sizes were searched in a reduced copy once, and moved by 1.5 pixels."""
    photo = scene(size, head, (860, 40, 900))
    ((box, _),) = by_dlib(photo)
    predictor = dlib.shape_predictor(str(model_files() / "shape_predictor_68_face_landmarks.dat"))
    shape = predictor(np.asarray(photo), dlib.rectangle(*box))
    points = np.array([(point.x, point.y) for point in shape.parts()], np.float64)
    expected = np.asarray(crop_quad(photo, face_quad(points), 256), np.int16)
    (face,) = align_faces(photo, 256)
    assert face.box == box
    assert np.abs(np.asarray(face.image, np.int16) - expected).mean() < 1


MEMORY = """
import sys
from pathlib import Path
from PIL import Image
from restyle.core.faces.alignment import align_faces
tile = Image.open(sys.argv[1]).convert("RGB")
photo = Image.new("RGB", (8192, 6144), (120, 110, 100))
photo.paste(tile.resize((1600, 1050)), (5000, 4000))
faces = align_faces(photo, 256, "all", detector=sys.argv[2])
# Not ru_maxrss, which begins with the memory of the process that started this one.
status = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
print(len(faces), int(status.split()[0]) // 1024)
"""


@pytest.mark.parametrize("detector", ["exact"])
def test_fifty_megapixels_take_less_than_600_megabytes(detector: str, photos: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, photos / "smile.jpg", detector],
        capture_output=True,
        text=True,
        check=True,
    )
    faces, megabytes = map(int, done.stdout.split())
    assert faces == 1
    assert megabytes < 600
