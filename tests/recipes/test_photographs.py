"""Photographs for measurements: their truth is where the faces are, whatever was done to them."""

from __future__ import annotations

import cmath
import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from recipes.photographs.__main__ import main
from recipes.photographs.canvas import ORIENTATIONS, Canvas
from recipes.photographs.catalogue import LEAST, MOST, group, one_face, plans
from recipes.photographs.compose import compose
from recipes.photographs.packages import PACKAGES, fetch
from recipes.photographs.sources import SourceFace, source_faces
from recipes.photographs.truth import Face, Photograph, read_truth, write_truth
from restyle.core.errors import FatalError
from restyle.core.imaging.decoding import decode_image

COLOURS = {(-1, -1): (255, 0, 0), (1, -1): (0, 255, 0), (1, 1): (0, 0, 255), (-1, 1): (255, 255, 0)}
SOURCE = SourceFace("made/up.png", (300, 240), 120, "frontal", (0, 0, 640, 480))


@functools.cache
def marked() -> Image.Image:
    """A grey picture with a coloured dot at each corner of the face's square."""
    pixels = np.full((480, 640, 3), 120, np.uint8)
    y, x = np.mgrid[:480, :640] + 0.5
    for (right, down), colour in COLOURS.items():
        centre = (SOURCE.centre[0] + right * 60, SOURCE.centre[1] + down * 60)
        pixels[np.hypot(x - centre[0], y - centre[1]) < 9] = colour
    return Image.fromarray(pixels)


def dots(image: Image.Image) -> dict[tuple[int, int], complex]:
    """Where the dots are in a photograph."""
    pixels = np.asarray(image, np.float32)
    found = {}
    for corner, colour in COLOURS.items():
        y, x = np.nonzero(np.abs(pixels - colour).max(axis=2) < 70)
        found[corner] = complex(x.mean() + 0.5, y.mean() + 0.5)
    return found


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(("side", "roll"), [(70, 0), (200, 30), (120, -22)])
def test_truth_is_where_the_face_is(orientation: int, side: float, roll: float) -> None:
    canvas = Canvas(Image.new("RGB", (520, 700), (90, 90, 90)))
    canvas.add(marked(), SOURCE, ((260, 410), side, roll), bust=side == 120)
    image = decode_image(canvas.encode("JPEG", orientation, quality=95))
    assert image.size == (520, 700)
    (face,) = canvas.faces
    found = dots(image)
    for corner, place in found.items():
        offset = complex(*corner) * face.side / 2
        # y points down, so a counterclockwise turn on the screen is clockwise in the plane.
        expected = complex(*face.centre) + offset * cmath.exp(-1j * math.radians(face.roll))
        assert abs(place - expected) < 2


def test_cover_lies_on_the_face_and_turns_with_it() -> None:
    canvas = Canvas(Image.new("RGB", (400, 400), (90, 90, 90)))
    canvas.add(marked(), SOURCE, ((200, 200), 160, 25), bust=False)
    canvas.hide(0, (0.0, -0.7, 0.7, 0.7), (10, 10, 10))
    pixels = np.asarray(canvas.image)
    assert canvas.faces[0].hidden
    for corner in COLOURS:
        place = 200 + 200j + complex(*corner) * 80 * cmath.exp(-1j * math.radians(25))
        covered = bool((pixels[int(place.imag), int(place.real)] == 10).all())
        assert covered == (corner[0] == 1)


def test_catalogue_covers_what_is_measured() -> None:
    standard = [plan for plan in plans(0) if plan.subset == "standard"]
    megapixels = [plan.size[0] * plan.size[1] / 1e6 for plan in standard]
    sizes = {plan.size for plan in standard}
    assert len(standard) >= 200
    assert min(megapixels) >= 1
    assert max(megapixels) >= 12
    assert sizes >= {(1024, 1024), (2048, 2048), (4000, 3000), (970, 2204), (1434, 2333)}
    assert len({plan.file for plan in plans(0)}) == len(list(plans(0)))
    assert {plan.kind for plan in plans(0) if plan.subset == "hard"} == {
        "three-quarter",
        "profile",
        "small",
        "dark",
        "hidden",
    }


def test_faces_have_the_sides_and_rolls_that_are_promised() -> None:
    counts, sides, rolls = set(), [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        size = (4000, 3000) if seed % 2 else (1024, 1024)
        one = one_face(size, "one", rng)
        several = group(size, rng)
        counts.add(len(several))
        assert len({placed.source.person for placed in several}) == len(several)
        for placed in [one, *several]:
            sides.append(placed.side)
            rolls.append(abs(placed.roll))
            assert 0 < placed.centre[0] < size[0]
            assert 0 < placed.centre[1] < size[1]
    assert counts == set(range(2, 13))
    assert LEAST <= min(sides) < 80
    assert 1200 < max(sides) <= MOST
    assert 25 < max(rolls) <= 30


def test_sources_stand_in_their_panels() -> None:
    faces = source_faces()
    assert {face.yaw for face in faces} == {"frontal", "three-quarter", "profile"}
    assert len({face.person for face in faces if face.yaw == "frontal"}) >= 12
    for face in faces:
        left, top, right, bottom = face.panel
        assert left < face.centre[0] < right
        assert top < face.centre[1] < bottom


def pictures(name: str) -> Image.Image:
    """Noise, as large as the largest picture of the packages."""
    rng = np.random.default_rng(len(name))
    coarse = Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8))
    return coarse.resize((2400, 2800))


@pytest.mark.parametrize("subset", ["standard", "hard", "faceless"])
def test_same_seed_makes_the_same_file_and_another_another(subset: str) -> None:
    def make(seed: int) -> tuple[bytes, Photograph]:
        plan = next(plan for plan in plans(seed) if plan.subset == subset)
        return compose(dataclasses.replace(plan, size=(640, 480)), pictures)

    first = make(0)
    assert first == make(0)
    assert first[0] != make(1)[0]
    assert decode_image(first[0]).size == (640, 480)
    assert bool(first[1].faces) == (subset != "faceless")


def test_truth_survives_its_file(tmp_path: Path) -> None:
    face = Face((10.5, 20.25), 64.0, -12.0, "profile", True, "openpeople/P001/x.jpg")
    photographs = [
        Photograph("hard/a.jpg", "hard", (640, 480), 6, [face]),
        Photograph("faceless/b.jpg", "faceless", (1024, 1024)),
    ]
    write_truth(tmp_path, 3, photographs)
    assert read_truth(tmp_path) == photographs
    assert face.box == (-21.5, -11.75, 42.5, 52.25)


def test_registry_out_of_reach_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    app = typer.Typer()
    app.command()(main)
    ended = CliRunner().invoke(app, [str(tmp_path / "out"), "--cache", str(tmp_path)])
    assert ended.exit_code == 2
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("error: openpeople==0.1.2 cannot be downloaded into")
    assert "put openpeople-0.1.2-py3-none-any.whl there" in line


def test_another_file_than_expected_is_refused(tmp_path: Path) -> None:
    package = PACKAGES["openpeople"]
    (tmp_path / package.file).write_bytes(b"somebody else's")
    with pytest.raises(FatalError, match=r"has sha256 [0-9a-f]{64}, expected 6faee0.*delete it"):
        fetch(package, tmp_path)
