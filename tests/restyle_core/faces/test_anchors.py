"""Crops from landmarks that somebody already has, against those of detection and the recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restyle.core.errors import RejectError, RejectReason
from restyle.core.faces.alignment import Face, Framing, align_faces, crop_quad
from restyle.core.faces.anchors import OUTSIDE, anchors_of
from restyle.core.imaging.decoding import decode_image
from tests.restyle_core.faces.test_alignment import recipe_quad, synthetic_landmarks, texture

GREY = Image.new("RGB", (200, 160), "grey")


@pytest.fixture(scope="module")
def friends(photos: Path) -> tuple[Image.Image, list[Face]]:
    image = decode_image((photos / "two friends.jpg").read_bytes())
    return image, align_faces(image, 64, "all", Framing(0.9, 0.05))


def test_exact_crops_of_given_points(friends: tuple[Image.Image, list[Face]]) -> None:
    image, found = friends
    for face in align_faces(
        image, 64, "all", landmarks=[face.landmarks for face in found], detector="exact"
    ):
        assert np.array_equal(face.image, crop_quad(image, face.quad, 64, exact=True))
        assert not np.array_equal(face.image, crop_quad(image, face.quad, 64, exact=False))


def five(points: np.ndarray) -> np.ndarray:
    """CelebA's points of dlib's: the centres of the eyes by definition, the tip of the nose."""
    eyes = [sum(points[36:42]) / 6, sum(points[42:48]) / 6]
    return np.array([*eyes, points[30], points[48], points[54]])


def same(one: list[Face], others: list[Face]) -> bool:
    return len(one) == len(others) and all(
        np.array_equal(a.quad, b.quad) and np.array_equal(np.asarray(a.image), np.asarray(b.image))
        for a, b in zip(
            sorted(one, key=lambda face: face.quad[0, 0]),
            sorted(others, key=lambda face: face.quad[0, 0]),
            strict=True,
        )
    )


def test_dlibs_own_points_give_the_crops_of_detection(
    friends: tuple[Image.Image, list[Face]],
) -> None:
    image, found = friends
    points = [face.landmarks for face in found]
    given = align_faces(image, 64, "all", Framing(0.9, 0.05), points)
    assert same(given, found)
    assert all(np.isnan(face.score) for face in given)
    for face in given:
        left, top, right, bottom = face.box
        assert (left, top) <= tuple(face.landmarks.min(axis=0))
        assert (right, bottom) >= tuple(face.landmarks.max(axis=0))


def test_five_points_with_the_same_eyes_and_mouth_give_the_same_crop(
    friends: tuple[Image.Image, list[Face]],
) -> None:
    image, found = friends
    points = [five(face.landmarks) for face in found]
    given = align_faces(image, 64, "all", Framing(0.9, 0.05), np.array(points))
    for face in given:
        nearest = min(found, key=lambda other: np.abs(other.quad - face.quad).max())
        assert np.abs(nearest.quad - face.quad).max() < 1e-9


def test_corners_are_the_crop_whatever_the_framing(
    friends: tuple[Image.Image, list[Face]],
) -> None:
    image, found = friends
    given = align_faces(image, 64, "all", Framing(0.5), [face.quad for face in found])
    assert same(given, found)


def test_the_largest_crop_comes_first_and_one_face_needs_no_list() -> None:
    points = [
        synthetic_landmarks((60, 60), 20, 0),
        synthetic_landmarks((130, 80), 31, 10),
        synthetic_landmarks((60, 110), 25, -20),
    ]
    faces = align_faces(GREY, 32, "all", landmarks=points)
    sides = [recipe_quad(points[index])[1] for index in (1, 2, 0)]
    assert [np.hypot(*(face.quad[3] - face.quad[0])) for face in faces] == pytest.approx(sides)
    (largest,) = align_faces(GREY, 32, landmarks=points)
    (alone,) = align_faces(GREY, 32, landmarks=points[1])
    assert np.array_equal(largest.quad, faces[0].quad)
    assert np.array_equal(alone.quad, faces[0].quad)
    assert np.array_equal(largest.landmarks, points[1])


@pytest.mark.parametrize("degrees", [0, 100, 180, -75])
def test_many_faces_at_once_are_reduced_as_one_at_a_time(degrees: float) -> None:
    rng = np.random.default_rng(0)
    points = np.stack([synthetic_landmarks((500, 400), 80, degrees) for _ in range(50)])
    points += rng.normal(0, 2, points.shape)
    anchors, faults = anchors_of(points)
    assert not faults
    image = texture(1000, 800)
    for each, reduced in zip(points[:5], anchors[:5], strict=True):
        quad, _ = recipe_quad(each)
        (face,) = align_faces(image, 32, landmarks=[each])
        assert np.allclose(face.quad, quad)
        assert np.array_equal(face.image, crop_quad(image, face.quad, 32, exact=False))
        assert np.array_equal(reduced["places"][3], each.min(axis=0))


FACE = synthetic_landmarks((100, 70), 30, 0)


def changed(index: int, value: object) -> np.ndarray:
    points = FACE.copy()
    points[index] = value
    return points


SQUARE = np.array([[50, 40], [50, 120], [130, 120], [130, 40]])


@pytest.mark.parametrize(
    ("points", "reason", "said"),
    [
        (FACE[:67], "bad_landmarks", "67 points"),
        (np.zeros((0, 2)), "bad_landmarks", "0 points"),
        (FACE[:, :1], "bad_landmarks", "no list of points"),
        (FACE.ravel(), "bad_landmarks", "no list of points"),
        ([["a", "b"]] * 68, "bad_landmarks", "no list of points"),
        ([[1, 2], [3]], "bad_landmarks", "no list of points"),
        (changed(3, np.nan), "bad_landmarks", "not finite"),
        (changed(67, (np.inf, 0)), "bad_landmarks", "not finite"),
        (changed(40, (1e308, -1e308)), "bad_landmarks", "in no photograph"),
        (np.full((68, 2), 1e308), "bad_landmarks", "in no photograph"),
        (changed(5, (1e6, 0)), "landmarks_outside", "999800.5 pixels outside of the 200x160"),
        (np.zeros((5, 2)), "bad_landmarks", "coincide"),
        (np.full((5, 2), -1.0), "bad_landmarks", "coincide"),
        (FACE * [-1, 1] + [200, 0], "bad_landmarks", "mirrored"),
        (five(FACE)[[1, 0, 2, 3, 4]], "bad_landmarks", "mirrored"),
        (five(FACE)[:, ::-1], "bad_landmarks", "mirrored"),
        (SQUARE[[0, 3, 2, 1]], "bad_landmarks", "upper left"),
        (SQUARE * [1, 0], "bad_landmarks", "coincide"),
        (FACE - (-200, 0), "landmarks_outside", "outside of the 200x160 photograph"),
        (FACE - [0, 120], "landmarks_outside", "outside"),
        (FACE * 40, "landmarks_outside", "outside"),
        (SQUARE - (-120, 0), "landmarks_outside", "the centre of the crop"),
        ((SQUARE - [90, 80]) * 30 + [90, 80], "landmarks_outside", "pixels wide"),
    ],
)
def test_what_is_no_face_is_rejected_with_what_is_wrong(
    points: object, reason: str, said: str
) -> None:
    with pytest.raises(RejectError, match=said) as caught:
        align_faces(GREY, 32, landmarks=[points])
    assert caught.value.reason == reason


def test_no_points_at_all() -> None:
    with pytest.raises(RejectError) as caught:
        align_faces(GREY, 32, landmarks=[])
    assert caught.value.reason is RejectReason.NO_LANDMARKS


@pytest.mark.parametrize("towards", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_points_may_lie_outside_by_a_share_of_the_crop(towards: tuple[int, int]) -> None:
    face = five(FACE)
    side = recipe_quad(FACE)[1]
    # The outer edges of the photograph's pixels.
    low, high = face.min(axis=0) + 0.5, np.array(GREY.size) - 0.5 - face.max(axis=0)
    to_border = np.where(np.array(towards) > 0, high, low)
    for share, is_inside in ((OUTSIDE - 0.01, True), (OUTSIDE + 0.01, False)):
        moved = face + np.array(towards) * (to_border + share * side)
        if is_inside:
            assert align_faces(GREY, 32, landmarks=[moved])
        else:
            with pytest.raises(RejectError, match="more than 30%"):
                align_faces(GREY, 32, landmarks=[moved])
