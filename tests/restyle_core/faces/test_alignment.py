"""Alignment against the recipe, written a second time step by step, and what surrounds it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage import data

from restyle.core.errors import FatalError, RejectError, RejectReason, SpecError
from restyle.core.faces.alignment import (
    FFHQ,
    PREDICTOR_VARIABLE,
    Framing,
    align_faces,
    crop_quad,
    face_quad,
    outside_fraction,
    quad_to_crop,
)

# Six points per eye and two mouth corners of an upright face, eyes 1 apart, in dlib's order;
# the recipe reads no others.
EYE = np.array([[-0.2, 0], [-0.1, -0.06], [0.1, -0.07], [0.2, 0.01], [0.1, 0.06], [-0.1, 0.05]])
LEFT_EYE, RIGHT_EYE = EYE - [0.5, 0], EYE - [-0.5, 0]
MOUTH = np.array([[-0.4, 1.1], [0.42, 1.12]])


def synthetic_landmarks(centre, eye_distance, degrees, long_face=1.0):
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = LEFT_EYE, RIGHT_EYE
    points[48], points[54] = MOUTH * [1, long_face]
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points * eye_distance @ rotation.T + centre


def texture(width, height, seed=0):
    """A photo with structure at every scale, as faces and their surroundings have."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128.0)
    for cells, amplitude in ((4, 60), (12, 40), (40, 25), (120, 12)):
        coarse = rng.normal(0, amplitude, (cells, cells, 3))
        zoom = (height / cells, width / cells, 1)
        pixels += ndimage.zoom(coarse, zoom, order=1)[:height, :width]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


# --- the recipe, numbered as in its description; slow and literal ---


def recipe_quad(points):
    # 1
    eye_l = sum(points[36:42]) / 6
    eye_r = sum(points[42:48]) / 6
    eye_avg = (eye_l + eye_r) / 2
    e2e = eye_r - eye_l
    e2m = (points[48] + points[54]) / 2 - eye_avg
    # 2
    x = np.array([e2e[0] + e2m[1], e2e[1] - e2m[0]])
    x = x / (x[0] ** 2 + x[1] ** 2) ** 0.5
    x = x * max(2.0 * np.linalg.norm(e2e), 1.8 * np.linalg.norm(e2m))
    y = np.array([-x[1], x[0]])
    c = eye_avg + 0.1 * e2m
    return np.array([c - x - y, c - x + y, c + x + y, c + x - y]), 2 * np.linalg.norm(x)


def recipe_crop(photo, quad, qsize, size):
    # 3
    shrink = int(np.floor(qsize / size * 0.5))
    if shrink > 1:
        smaller = (int(np.rint(photo.width / shrink)), int(np.rint(photo.height / shrink)))
        photo = photo.resize(smaller, Image.Resampling.LANCZOS)
        quad, qsize = quad / shrink, qsize / shrink
    # 4
    border = max(int(np.rint(0.1 * qsize)), 3)
    x0 = max(int(np.floor(quad[:, 0].min())) - border, 0)
    y0 = max(int(np.floor(quad[:, 1].min())) - border, 0)
    x1 = min(int(np.ceil(quad[:, 0].max())) + border, photo.width)
    y1 = min(int(np.ceil(quad[:, 1].max())) + border, photo.height)
    pixels = np.asarray(photo).astype(np.float64)[y0:y1, x0:x1]
    quad = quad - [x0, y0]
    # 5
    height, width, _ = pixels.shape
    needed = {
        "left": -np.floor(quad[:, 0].min()) + border,
        "top": -np.floor(quad[:, 1].min()) + border,
        "right": np.ceil(quad[:, 0].max()) - width + border,
        "bottom": np.ceil(quad[:, 1].max()) - height + border,
    }
    if max(needed.values()) > border - 4:
        least = int(np.rint(0.3 * qsize))
        pad = {side: max(int(value), least) for side, value in needed.items()}
        rows = [mirror(i - pad["top"], height) for i in range(pad["top"] + height + pad["bottom"])]
        cols = [mirror(j - pad["left"], width) for j in range(pad["left"] + width + pad["right"])]
        pixels = pixels[rows][:, cols]
        height, width, _ = pixels.shape
        rows, cols = np.arange(height), np.arange(width)
        vertical = 1 - np.minimum(rows / pad["top"], (height - 1 - rows) / pad["bottom"])
        across = 1 - np.minimum(cols / pad["left"], (width - 1 - cols) / pad["right"])
        mask = np.maximum.outer(vertical, across)[..., None]
        sigma = 0.02 * qsize
        blurred = np.stack([ndimage.gaussian_filter(pixels[..., k], sigma) for k in range(3)], -1)
        share = np.clip(3 * mask + 1, 0, 1)
        pixels = pixels * (1 - share) + blurred * share
        share = np.clip(mask, 0, 1)
        pixels = pixels * (1 - share) + np.median(pixels.reshape(-1, 3), axis=0) * share
        pixels = np.clip(np.rint(pixels), 0, 255)
        quad = quad - [-pad["left"], -pad["top"]]
    # 6: centre (i + 0.5, j + 0.5) of a crop pixel lies at this place in pixel-centre coordinates.
    step = (np.arange(size) + 0.5) / size
    places = (
        quad[0]
        + step[None, :, None] * (quad[3] - quad[0])
        + step[:, None, None] * (quad[1] - quad[0])
    )
    sampled = [
        ndimage.map_coordinates(
            pixels[..., k], [places[..., 1], places[..., 0]], order=1, mode="nearest"
        )
        for k in range(3)
    ]
    return np.stack(sampled, axis=-1)


def mirror(i, length):
    """Index of reflection without repeating the edge."""
    if length == 1:
        return 0
    i = abs(i) % (2 * length - 2)
    return i if i < length else 2 * length - 2 - i


CASES = {
    "inside": ((400, 300), (200, 130), 40, 0),
    "turned": ((400, 300), (200, 130), 45, 33),
    "upside down": ((400, 300), (200, 150), 35, 171),
    "sideways": ((400, 300), (190, 150), 38, -90),
    "large, reduced": ((720, 640), (360, 270), 130, 8),
    "reduced at 256 too": ((1300, 1250), (650, 560), 260, -4),
    "left border": ((300, 300), (30, 140), 36, -12),
    "top right corner": ((300, 260), (280, 20), 40, 20),
    "bottom border": ((300, 260), (150, 235), 40, 5),
    "larger than the photo": ((160, 140), (80, 60), 60, 3),
    "large, reduced, at the border": ((700, 500), (60, 400), 160, -20),
    "tiny": ((64, 64), (30, 25), 5, 0),
}


@pytest.mark.parametrize("name", ["smile.jpg", "three-at-the-window.jpg", "two friends.jpg"])
def test_the_faster_filter_is_within_a_grey_level_of_the_recipe_s(photos, name):
    """A large face of a large photograph, whose grain is at its pixels."""
    photo = Image.open(photos / name).convert("RGB")
    photo = photo.resize((photo.width * 4, photo.height * 4), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 3, (photo.height, photo.width, 1))
    photo = Image.fromarray(np.clip(np.asarray(photo) + grain, 0, 255).astype(np.uint8))
    (left, top), side = np.array(photo.size) * 0.1, 0.8 * min(photo.size)
    quad = np.array(
        [(left, top), (left, top + side), (left + side, top + side), (left + side, top)]
    )
    exact, fast = (
        np.asarray(crop_quad(photo, quad, 256, exact=way), float) for way in (True, False)
    )
    assert 0 < np.abs(exact - fast).mean() < 0.9


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("name", CASES)
def test_crops_equal_the_recipe(name, size):
    (width, height), centre, eye_distance, degrees = CASES[name]
    photo = texture(width, height)
    points = synthetic_landmarks(centre, eye_distance, degrees)
    quad, qsize = recipe_quad(points)
    np.testing.assert_allclose(face_quad(points), quad, atol=1e-9)
    ours = np.asarray(crop_quad(photo, face_quad(points), size)).astype(float)
    difference = np.abs(ours - recipe_crop(photo, quad, qsize, size))
    assert difference.mean() < 1.0
    # Not only on average: bilinear weights of Pillow are rounded, nothing more.
    assert np.percentile(difference, 99) < 2.0
    assert ours.std() > 10


@pytest.mark.parametrize("centre", [(300, 900), (20, 60)])
def test_only_the_part_around_a_large_face_is_reduced(centre, monkeypatch):
    """And it is what the same part of the whole reduced photo is."""
    width, height = 1600, 1403
    photo = texture(width, height)
    quad = face_quad(synthetic_landmarks(centre, 130, 8))
    parts = []
    resize = Image.Image.resize

    def noted(image, size, *arguments, box, **options):
        part = resize(image, size, *arguments, box=box, **options)
        scale = (box[2] - box[0]) / size[0]
        whole = resize(image, (round(width / scale), round(height / scale)), *arguments)
        left, top = round(box[0] / scale), round(box[1] / scale)
        same = whole.crop((left, top, left + size[0], top + size[1]))
        parts.append((part.size, np.abs(np.asarray(part).astype(int) - same).max()))
        return part

    monkeypatch.setattr(Image.Image, "resize", noted)
    crop_quad(photo, quad, 64)
    ((size, difference),) = parts
    assert size[0] * size[1] < 0.3 * (width // 4) * (height // 4)
    assert difference <= 1


def test_wide_mouth_decides_the_size_of_long_faces():
    """Step 2 takes the larger of two measures; both branches occur."""
    for long_face in (0.6, 1.0, 2.0):
        points = synthetic_landmarks((100, 100), 30, 15, long_face)
        np.testing.assert_allclose(face_quad(points), recipe_quad(points)[0], atol=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.floats(-200, 600),
    st.floats(-200, 600),
    st.floats(2, 400),
    st.floats(-180, 180),
    st.floats(0.3, 3),
)
def test_quad_is_an_oriented_square(x, y, eye_distance, degrees, long_face):
    points = synthetic_landmarks((x, y), eye_distance, degrees, long_face)
    quad = face_quad(points)
    np.testing.assert_allclose(quad, recipe_quad(points)[0], rtol=1e-9, atol=1e-6)
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    np.testing.assert_allclose(down, [-across[1], across[0]], atol=1e-6)
    np.testing.assert_allclose(quad[2] - quad[0], across + down, atol=1e-6)


# --- quads, framings, inverses ---


def test_framing_scales_and_shifts_in_units_of_the_whole_quad():
    points = synthetic_landmarks((200, 150), 40, 25)
    whole, part = face_quad(points, FFHQ), face_quad(points, Framing(scale=0.7, shift=0.02))
    side = np.linalg.norm(whole[3] - whole[0])
    assert np.linalg.norm(part[3] - part[0]) == pytest.approx(0.7 * side)
    moved = part.mean(axis=0) - whole.mean(axis=0)
    down = (whole[1] - whole[0]) / side
    np.testing.assert_allclose(moved, 0.02 * side * down, atol=1e-9)


def test_quad_to_crop_takes_corners_to_corners():
    quad = face_quad(synthetic_landmarks((200, 150), 40, 25))
    matrix = quad_to_crop(quad, 256)
    corners = (quad + 0.5) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(corners, [[0, 0], [0, 256], [256, 256], [256, 0]], atol=1e-9)


def test_inverse_of_the_map_finds_where_a_crop_pixel_came_from():
    """On a photo that is a ramp of its own coordinates, colours are places."""
    y, x = np.mgrid[:240, :240]
    photo = Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))
    quad = face_quad(synthetic_landmarks((120, 100), 22, 30))
    size = 64
    crop = np.asarray(crop_quad(photo, quad, size)).astype(float)
    matrix = quad_to_crop(quad, size)
    inverse = np.linalg.inv(matrix[:, :2])
    for i, j in ((0, 0), (10, 50), (63, 63), (31, 5)):
        place = inverse @ (np.array([j, i]) + 0.5 - matrix[:, 2])
        # The photo's value is the index of the pixel, whose centre is half a pixel further.
        np.testing.assert_allclose(crop[i, j, :2], place - 0.5, atol=1.0)


@pytest.mark.parametrize(
    ("centre", "expected"), [((100, 100), 0.0), ((0, 100), 0.5), ((0, 0), 0.75), ((-90, 100), 1.0)]
)
def test_outside_fraction(centre, expected):
    square = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * 50.0 + centre
    assert outside_fraction(square, (200, 200)) == pytest.approx(expected, abs=0.03)


# --- detection ---


@pytest.fixture(scope="module")
def astronaut():
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def face(astronaut):
    (found,) = align_faces(astronaut)
    return found


def test_a_photograph(astronaut, face):
    assert face.image.mode == "RGB"
    assert face.image.size == (256, 256)
    assert face.landmarks.shape == (68, 2)
    assert face.quad.shape == (4, 2)
    assert face.score > 0
    left, top, right, bottom = face.box
    # Her face, as a person sees it in the picture.
    assert 150 < left < 200 < 250 < right < 300
    assert 50 < top < 90 < 150 < bottom < 200
    quad, qsize = recipe_quad(face.landmarks)
    expected = recipe_crop(astronaut, quad, qsize, 256)
    assert np.abs(np.asarray(face.image) - expected).mean() < 1.0
    # Eyes are level and where FFHQ has them, just above the middle.
    matrix = quad_to_crop(face.quad, 256)
    eyes = (face.landmarks[36:48] + 0.5) @ matrix[:, :2].T + matrix[:, 2]
    left_eye, right_eye = eyes[:6].mean(axis=0), eyes[6:].mean(axis=0)
    assert abs(left_eye[1] - right_eye[1]) < 12
    assert 100 < eyes[:, 1].mean() < 128
    assert 50 < right_eye[0] - left_eye[0] < 80


def test_landmarks_lie_on_the_faces_features(face):
    """dlib's order: jaw, brows, nose, eyes, mouth."""
    points = face.landmarks
    jaw, brows, nose, eyes, mouth = (
        points[a:b].mean(axis=0) for a, b in ((0, 17), (17, 27), (27, 36), (36, 48), (48, 68))
    )
    assert brows[1] < eyes[1] < nose[1] < mouth[1]
    assert jaw[1] > eyes[1]


def test_size_and_framing_are_honoured(astronaut, face):
    framing = Framing(0.7, 0.02)
    (tight,) = align_faces(astronaut, size=64, framing=framing)
    assert tight.image.size == (64, 64)
    np.testing.assert_allclose(tight.quad, face_quad(face.landmarks, framing))


@pytest.fixture(scope="module")
def two_faces(astronaut):
    """A small face on the left and a large one on the right."""
    head = astronaut.crop((120, 0, 330, 230))
    photo = Image.new("RGB", (480, 260), (90, 110, 130))
    photo.paste(head.resize((137, 150), Image.Resampling.LANCZOS), (10, 60))
    photo.paste(head, (250, 10))
    return photo


def test_largest_face_comes_first(two_faces):
    faces = align_faces(two_faces, faces="all")
    assert len(faces) == 2
    widths = [face.box[2] - face.box[0] for face in faces]
    assert widths[0] > widths[1]
    assert faces[0].box[0] > 250 > faces[1].box[2]
    (largest,) = align_faces(two_faces)
    assert largest.box == faces[0].box
    np.testing.assert_array_equal(np.asarray(largest.image), np.asarray(faces[0].image))


def test_other_modes_are_converted(astronaut, face):
    (grey,) = align_faces(astronaut.convert("L"))
    assert grey.image.mode == "RGB"
    assert np.abs(grey.quad - face.quad).max() < 15
    (opaque,) = align_faces(astronaut.convert("RGBA"))
    np.testing.assert_array_equal(np.asarray(opaque.image), np.asarray(face.image))


@pytest.mark.parametrize(
    "photo", [Image.new("RGB", (128, 128)), texture(128, 160)], ids=["black", "noise"]
)
def test_no_face(photo):
    with pytest.raises(RejectError) as caught:
        align_faces(photo)
    assert caught.value.reason is RejectReason.NO_FACE


def test_senseless_options(astronaut):
    with pytest.raises(SpecError, match="biggest"):
        align_faces(astronaut, faces="biggest")
    with pytest.raises(SpecError, match="0 pixels"):
        align_faces(astronaut, size=0)


def test_predictor_of_the_users_choice_must_exist(astronaut, monkeypatch, tmp_path):
    monkeypatch.setenv(PREDICTOR_VARIABLE, str(tmp_path / "none.dat"))
    with pytest.raises(FatalError, match=PREDICTOR_VARIABLE):
        align_faces(astronaut)
    junk = tmp_path / "junk.dat"
    junk.write_bytes(b"junk")
    monkeypatch.setenv(PREDICTOR_VARIABLE, str(junk))
    with pytest.raises(FatalError, match=r"junk\.dat"):
        align_faces(astronaut)
