"""Small faces in large photographs are found, in bounded memory; predictors are looked at first."""

from __future__ import annotations

from pathlib import Path

import dlib
import numpy as np
import pytest
from PIL import Image

from restyle.core.errors import FatalError
from restyle.core.faces import landmarks
from restyle.core.faces.alignment import align_faces
from restyle.core.faces.detection import Detection
from restyle.core.faces.landmarks import PREDICTOR_VARIABLE, find_landmarks, model_files
from restyle.core.imaging.decoding import decode_image


@pytest.fixture(scope="module")
def face(photos: Path) -> Image.Image:
    """A head on its background, whose box has about 60 pixels."""
    photo = decode_image((photos / "smile.jpg").read_bytes())
    (found,) = find_landmarks(photo)
    left, top, right, bottom = found[1].box
    side = right - left
    head = photo.crop((left - side, top - side, right + side, bottom + side))
    return head.resize((180, 180), Image.Resampling.LANCZOS)


def photograph(size: tuple[int, int], face: Image.Image, *places: tuple[int, int]) -> Image.Image:
    """A smooth ground with the head at some places."""
    ground = Image.linear_gradient("L").resize(size).convert("RGB").point(lambda v: 90 + v // 4)
    for place in places:
        ground.paste(face, place)
    return ground


SIZES = {
    "24 megapixels": ((6000, 4000), (4321, 2789)),
    "a panorama": ((20000, 300), (16543, 60)),
    "a scan of a roll": ((320, 16000), (100, 9876)),
    "between two pieces": ((3000, 3000), (1960, 1300)),
    "at the last corner": ((3000, 3100), (2820, 2920)),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_face_of_60_pixels_is_found_wherever_it_is(name: str, face: Image.Image) -> None:
    size, place = SIZES[name]
    (found,) = align_faces(photograph(size, face, place), 64)
    left, top, right, bottom = found.box
    assert 45 < right - left < 75
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    assert np.abs(centre - place - 90).max() < 12
    # Landmarks are fitted where the face is, at its own size.
    assert np.abs(found.landmarks.mean(axis=0) - centre).max() < 20


def test_small_faces_beside_a_large_one_are_found_when_all_are_wanted(face: Image.Image) -> None:
    photo = photograph((3200, 2600), face, (150, 200), (2500, 2300))
    photo.paste(face.resize((900, 900), Image.Resampling.LANCZOS), (1200, 900))
    (largest,) = align_faces(photo, 64)
    assert largest.box[2] - largest.box[0] > 200
    every = align_faces(photo, 64, faces="all")
    assert len(every) == 3
    assert every[0].box == largest.box


def test_one_face_in_two_pieces_is_one_face(face: Image.Image) -> None:
    places = [(1900, 40), (1900, 1900), (40, 1900), (1000, 1000)]
    photo = photograph((2900, 2900), face, *places)
    boxes = [face.box for _, face in find_landmarks(photo)]
    centres = [((box[0] + box[2]) / 2 - 90, (box[1] + box[3]) / 2 - 90) for box in boxes]
    assert len(boxes) == len(places)
    for x, y in places:
        assert min(abs(x - a) + abs(y - b) for a, b in centres) < 20


def trained(path: Path, points: int) -> Path:
    """A predictor of any number of points, trained on nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    box = dlib.rectangle(8, 8, 56, 56)
    spots = dlib.points([dlib.point(8 + index % 48, 10 + index % 40) for index in range(points)])
    options = dlib.shape_predictor_training_options()
    options.cascade_depth, options.num_trees_per_cascade_level, options.tree_depth = 1, 1, 1
    options.oversampling_amount, options.num_threads = 2, 1
    shape = dlib.full_object_detection(box, spots)
    dlib.train_shape_predictor([pixels] * 2, [[shape]] * 2, options).save(str(path))
    return path


@pytest.mark.parametrize("points", [5, 67, 81])
def test_a_predictor_of_other_points_is_refused(
    points: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model_files() / "shape_predictor_5_face_landmarks.dat"
    if points != 5:
        path = trained(tmp_path / "trained.dat", points)
    monkeypatch.setenv(PREDICTOR_VARIABLE, str(path))
    # Before any face is looked at, and with nothing to find.
    with pytest.raises(FatalError, match=rf"{path.name} predicts {points} points.*needs 68"):
        find_landmarks(Image.new("RGB", (64, 64)))


@pytest.mark.parametrize(
    "box",
    [
        (150, 90, 310, 250),
        (230, 60, 420, 250),
        (-40, -30, 160, 170),
        (520, 300, 700, 480),
        (-200, -150, 840, 890),
    ],
)
def test_landmarks_are_those_fitted_to_the_whole_photograph(
    photos: Path, box: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the box is, even beyond the edges; dlib itself is given the whole here."""
    photo = decode_image((photos / "smile.jpg").read_bytes()).resize((640, 420))
    monkeypatch.setattr(landmarks, "candidates", lambda *_: [Detection(box, 1.0, "hog")])
    ((points, _),) = find_landmarks(photo)
    predictor = dlib.shape_predictor(str(model_files() / "shape_predictor_68_face_landmarks.dat"))
    shape = predictor(np.asarray(photo), dlib.rectangle(*box))
    assert points.tolist() == [[point.x, point.y] for point in shape.parts()]
