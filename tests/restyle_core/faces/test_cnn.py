"""Search of whole photographs with the convolutional detector."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from PIL import Image
from skimage import data

from restyle.core.errors import RejectError, RejectReason
from restyle.core.faces import cnn, detection
from restyle.core.faces.alignment import align_faces
from restyle.core.faces.cnn import find_faces
from restyle.core.faces.detection import detect


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def frontal(astronaut) -> tuple[int, ...]:
    return detect(astronaut, "largest", "exact")[0].box


def overlap(one, other) -> float:
    """Intersection over union."""
    across = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)


@pytest.mark.parametrize("scale", [0.4, 1, 5])
def test_boxes_are_those_of_the_frontal_detector_at_any_size(scale, astronaut, frontal):
    photo = astronaut.resize((round(512 * scale), round(512 * scale)), Image.Resampling.BICUBIC)
    (found,) = find_faces(photo, small=False)
    assert overlap([value / scale for value in found[0]], frontal) > 0.6
    assert found[1] > 0


def test_a_face_too_small_for_the_first_copy_is_found_in_a_piece_of_the_second(monkeypatch):
    monkeypatch.setattr(cnn, "_COARSE", 300 * 300)
    monkeypatch.setattr(cnn, "_FINE", 4 * 300 * 300)
    photo = np.full((600, 600, 3), 90, np.uint8)
    photo[250:450, 250:450] = data.astronaut()[:200, 120:320]
    image = Image.fromarray(photo)
    coarse = cnn._search(image, 0.5, (0, 0, 600, 600))
    assert not coarse
    # It lies in the overlap of all four pieces and counts once.
    ((box, _),) = find_faces(image, small=False)
    left, top, right, bottom = detect(Image.fromarray(data.astronaut()), "largest", "exact")[0].box
    assert overlap(box, (left + 130, top + 250, right + 130, bottom + 250)) > 0.6


@pytest.mark.parametrize("length", [1, 300, 1024, 1500, 7000])
def test_pieces_cover_a_side_and_overlap(length):
    intervals = cnn._intervals(length, 1024, 160)
    assert intervals[0][0] == 0
    assert intervals[-1][1] == length
    for (_, end), (start, _) in itertools.pairwise(intervals):
        assert end - start >= 159
    assert all(end - start <= 1024 + 161 for start, end in intervals)


def rotated(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


@pytest.mark.parametrize("degrees", [-100, -60, 60, 90])
def test_auto_finds_rotated_heads_and_crops_them_upright(degrees, astronaut):
    (upright,) = align_faces(astronaut, detector="exact")
    turned = rotated(astronaut, degrees)
    with pytest.raises(RejectError, match="frontal detector finds no face"):
        align_faces(turned)
    (face,) = align_faces(turned, detector="auto")
    assert face.detector == "cnn"
    middle = np.array(turned.size) / 2 - 0.5
    turn = math.radians(degrees)
    matrix = [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]
    expected = (upright.landmarks - 255.5) @ np.transpose(matrix) + middle
    eyes = math.dist(upright.landmarks[36], upright.landmarks[45])
    assert np.hypot(*(face.landmarks - expected).T).mean() < 0.06 * eyes
    difference = np.subtract(face.image, upright.image, dtype=np.float64)
    assert np.abs(difference).mean() < 12


def test_auto_leaves_faces_of_the_frontal_detector_as_they_are(astronaut):
    (ours,), (theirs,) = (align_faces(astronaut, detector=name) for name in ("auto", "hog"))
    assert ours.detector == theirs.detector == "hog"
    np.testing.assert_array_equal(ours.quad, theirs.quad)


def covered(rows: slice, columns: slice) -> Image.Image:
    """The astronaut, in grey where told; the face is in rows 76 to 166 and columns 75 to 165."""
    pixels = np.array(data.astronaut()[:256, 100:356])
    pixels[rows, columns] = 128
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "photo",
    [
        covered(slice(90, 115), slice(60, 180)),
        rotated(covered(slice(60, 180), slice(125, 180)), -30),
        rotated(covered(slice(128, 180), slice(60, 180)), 60),
    ],
    ids=["no eyes", "half a face, inclined", "no mouth, lying"],
)
def test_a_face_that_cannot_be_cropped_is_rejected_with_its_angle(photo):
    for detector in ("cnn", "auto"):
        with pytest.raises(RejectError, match=r"by about \d+ degrees") as caught:
            align_faces(photo, detector=detector)
        assert caught.value.reason is RejectReason.TURNED_AWAY


@pytest.mark.parametrize("columns", [slice(60, 118), slice(125, 180)], ids=["left", "right"])
def test_half_a_face_is_cropped_where_it_is(columns):
    """Its other half is hidden, so that the predictors of landmarks do not agree."""
    (whole,) = align_faces(Image.fromarray(data.astronaut()[:256, 100:356]))
    (face,) = align_faces(covered(slice(60, 180), columns), detector="cnn")
    side = math.dist(whole.quad[0], whole.quad[3])
    assert np.hypot(*(face.quad - whole.quad).T).max() < 0.3 * side


def test_auto_drops_what_the_convolutional_detector_does_not_confirm(astronaut):
    """The frontal detector sees a second face, in the shuttle, with a score of 0.12."""
    frontal_ones = detect(astronaut, "all", "hog")
    confirmed = detect(astronaut, "all", "auto")
    assert [face.score < 0.2 for face in frontal_ones] == [False, True]
    assert confirmed == frontal_ones[:1]
    pixels = np.array(astronaut)
    pixels[:250, 140:320] = 90
    alone = Image.fromarray(pixels)
    for faces in ("largest", "all"):
        assert len(detect(alone, faces, "hog")) == 1
        with pytest.raises(RejectError, match="confirms") as caught:
            align_faces(alone, faces=faces, detector="auto")
        assert caught.value.reason is RejectReason.NO_FACE


def test_a_refused_place_does_not_hide_a_smaller_face(astronaut):
    pixels = np.array(astronaut)
    pixels[:250, 140:320] = 90
    photo = Image.new("RGB", (800, 512), (90, 90, 90))
    photo.paste(Image.fromarray(pixels), (0, 0))
    photo.paste(astronaut.crop((140, 20, 310, 220)).resize((85, 100)), (600, 200))
    hog = detect(photo, "largest", "hog")
    assert hog[0].box[2] < 512
    (found,) = detect(photo, "largest", "auto")
    assert found.box[0] > 600
    assert found.detector.startswith("hog")


@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_a_face_of_low_score_is_confirmed_at_any_size(scale, astronaut, frontal, monkeypatch):
    monkeypatch.setattr(detection, "SURE", 99)
    photo = astronaut.resize((round(512 * scale), round(512 * scale)), Image.Resampling.BICUBIC)
    (found,) = detect(photo, "largest", "auto")
    assert found.detector == "hog+cnn"
    assert overlap([value / scale for value in found.box], frontal) > 0.6


@pytest.mark.parametrize("detector", ["cnn", "auto"])
def test_the_largest_face_that_can_be_cropped_is_taken_and_the_larger_one_told(detector, astronaut):
    """A face without eyes, larger than the whole one beside it."""
    blind = covered(slice(90, 115), slice(60, 180))
    photo = Image.new("RGB", (1400, 900), (128, 128, 128))
    photo.paste(blind.resize((900, 900), Image.Resampling.BICUBIC), (0, 0))
    head = astronaut.crop((120, 0, 340, 220)).resize((160, 160), Image.Resampling.BICUBIC)
    photo.paste(rotated(head, 60), (1050, 300))
    larger, smaller = sorted(find_faces(photo, small=False), key=lambda face: face[0][0])
    assert larger[0][2] - larger[0][0] > 1.5 * (smaller[0][2] - smaller[0][0])
    (face,) = align_faces(photo, detector=detector)
    assert face.box == smaller[0]
    assert re.fullmatch(r"a larger face is turned away by .*: it has no crop", face.note)
    (face,) = align_faces(photo, faces="all", detector=detector)
    assert face.note.startswith("a face is turned away")


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket"])
def test_there_is_no_face(name):
    photo = Image.fromarray(getattr(data, name)())
    assert not find_faces(photo, small=True)
    for detector, words in (("cnn", "convolutional"), ("auto", "neither")):
        with pytest.raises(RejectError, match=words) as caught:
            align_faces(photo, detector=detector)
        assert caught.value.reason is RejectReason.NO_FACE
