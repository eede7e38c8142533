"""The convolutional detector against dlib's own."""

from __future__ import annotations

from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from restyle.core.faces.alignment import model_files
from restyle.core.faces.mmod import detector
from restyle.core.faces.mmod.detector import MmodFace, find_mmod_faces
from restyle.core.faces.mmod.network import load_mmod_network
from restyle.core.faces.mmod.pyramid import Tile

SAMPLES = Path(__file__).parents[4] / "samples" / "photos"

DTYPES = [torch.float32, torch.bfloat16]


def photograph(name: str, size: tuple[int, int]) -> np.ndarray:
    return np.array(Image.open(SAMPLES / name).convert("RGB").resize(size))


# Faces of several sizes, odd and even sides, wide and high; a face cut by the edge; several faces
# that overlap; a head turned by a right angle; no face.
PICTURES = {
    "two": photograph("table.jpg", (400, 300)),
    "four": photograph("video call.jpg", (333, 259)),
    "dark": photograph("evening.jpg", (300, 220)),
    "wide": photograph("three-at-the-window.jpg", (410, 173)),
    "edge": np.array(data.astronaut()[20:200, 200:400]),
    "crowded": np.hstack([np.array(data.astronaut()[0:220, 140:300])] * 3)[::1, ::2].copy(),
    "turned": np.rot90(data.astronaut()[:250, 120:330]).copy(),
    "cat": np.array(data.chelsea()),
    "tiny": np.array(data.astronaut()[60:100, 200:240]),
    "grey": np.full((120, 70, 3), 128, np.uint8),
}


@pytest.fixture(scope="module")
def reference():
    return dlib.cnn_face_detection_model_v1(str(model_files() / "mmod_human_face_detector.dat"))


def found_by_dlib(reference, picture: np.ndarray) -> list[MmodFace]:
    return [
        MmodFace((f.rect.left(), f.rect.top(), f.rect.right(), f.rect.bottom()), f.confidence)
        for f in reference(picture, 0)
    ]


@pytest.mark.parametrize("name", PICTURES)
def test_boxes_and_scores_are_dlibs_in_any_precision(name, reference):
    picture = PICTURES[name]
    expected = found_by_dlib(reference, picture)
    for dtype in DTYPES:
        (found,) = find_mmod_faces(torch.from_numpy(picture)[None], dtype=dtype)
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.box, theirs.box, atol=1)
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)


def test_the_pictures_show_what_they_are_for(reference):
    counts = {name: len(found_by_dlib(reference, picture)) for name, picture in PICTURES.items()}
    assert counts["two"] == 2
    assert counts["four"] == 4
    assert counts["crowded"] == 3
    assert counts["wide"] == 3
    assert counts["cat"] == counts["grey"] == counts["tiny"] == 0


def test_a_batch_is_its_images():
    pictures = [PICTURES["two"], PICTURES["two"][:, ::-1].copy(), np.zeros_like(PICTURES["two"])]
    batch = find_mmod_faces(torch.from_numpy(np.stack(pictures)))
    alone = [find_mmod_faces(torch.from_numpy(picture)[None])[0] for picture in pictures]
    assert [len(faces) for faces in batch] == [2, 2, 0]
    for together, single in zip(batch, alone, strict=True):
        for ours, theirs in zip(together, single, strict=True):
            assert ours.box == theirs.box
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (301, 217), (410, 700), (1000, 61)])
@pytest.mark.parametrize("batch", [1, 2])
def test_bands_of_the_tile_are_the_tile(size, batch):
    """Also where rows of several levels, and levels beside each other, are in one band."""
    pixels = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)
    tile = Tile(torch.from_numpy(pixels))
    pyramid = tile.pyramid
    whole = tile.pixels(slice(0, pyramid.height))
    level = (torch.from_numpy(pixels) - torch.tensor([122.782, 117.001, 104.298])) / 256
    expected = torch.zeros_like(whole)
    for place in pyramid.levels:
        level = torch.nn.functional.interpolate(
            level.permute(0, 3, 1, 2),
            (place.height, place.width),
            mode="bilinear",
            align_corners=True,
        ).permute(0, 2, 3, 1)
        inside = slice(place.top, place.bottom + 1), slice(place.left, place.right + 1)
        expected[(slice(None), *inside, slice(0, 3))] = level
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=0)
    network = load_mmod_network()
    scores = network.score_bands(tile.pixels, pyramid.height, pyramid.width)
    torch.testing.assert_close(scores, network(whole, pyramid.width), atol=1e-4, rtol=0)
    part = tile.pixels(slice(3, 50), slice(20, 60), batch - 1)
    torch.testing.assert_close(part, whole[batch - 1 :, 3:50, 20:60])


def test_the_threshold_keeps_the_strong():
    picture = PICTURES["four"]
    (weak,) = find_mmod_faces(torch.from_numpy(picture)[None], threshold=-0.5)
    (strong,) = find_mmod_faces(torch.from_numpy(picture)[None], threshold=1.02)
    assert 0 < len(strong) < len(weak)
    assert {face.box for face in strong} < {face.box for face in weak}
    assert all(face.score > 1.02 for face in strong)
    assert [f.score for f in weak] == sorted((f.score for f in weak), reverse=True)


def test_bfloat16_errs_by_less_than_is_allowed_for():
    """Also where there is no face: a score that is off by more could be missed."""
    network = load_mmod_network()
    rough = detector._network(torch.device("cpu"), torch.bfloat16)
    largest = 0.0
    for picture in PICTURES.values():
        tile = Tile(torch.from_numpy(picture)[None])
        sides = tile.pyramid.height, tile.pyramid.width
        exact = network.score_bands(tile.pixels, *sides)
        error = (rough.score_bands(tile.pixels, *sides) - exact).abs()
        largest = max(largest, float(error.max()))
    assert largest < detector._BF16_ERROR / 1.5
