"""Faces go back to where they came from, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from restyle.core import decode_image
from restyle.core.editing.paste_back import paste_back, soft_mask
from restyle.core.errors import SpecError
from restyle.core.faces.alignment import Framing, align_faces, crop_quad

PHOTOS = ["smile.jpg", "party.webp", "album/2026/rotated by exif.jpg"]


def turned_quad(centre: tuple[float, float], side: float, degrees: float) -> np.ndarray:
    """Corners of a square that was turned clockwise, in the order of the alignment."""
    angle = np.radians(degrees)
    across = side / 2 * np.array([np.cos(angle), np.sin(angle)])
    down = side / 2 * np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array(centre)
    return np.stack([middle - across - down, middle - across + down,
                     middle + across + down, middle + across - down])  # fmt: skip


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", PHOTOS)
def test_an_exact_reconstruction_gives_the_photograph_back(photos: Path, name: str) -> None:
    photo = decode_image((photos / name).read_bytes())
    (face, *_) = align_faces(photo, size=64, framing=Framing(0.7, 0.02))
    side = round(float(np.hypot(*(face.quad[3] - face.quad[0]))))
    crop = crop_quad(photo, face.quad, side)
    pasted = np.asarray(paste_back(photo, crop, face.quad), dtype=int)
    mask = soft_mask(face.quad, (0, 0, *photo.size))
    difference = np.abs(pasted - np.asarray(photo, dtype=int)).mean(axis=-1)
    assert (mask > 0.99).sum() > 0.3 * side**2
    assert difference[mask > 0].mean() < 2
    assert difference[mask == 0].max() == 0


def test_an_edit_that_changes_nothing_keeps_all_detail(photos: Path) -> None:
    photo = decode_image((photos / PHOTOS[0]).read_bytes())
    (face,) = align_faces(photo, size=64)
    pasted = paste_back(photo, face.image, face.quad, original=face.image)
    np.testing.assert_array_equal(np.asarray(pasted), np.asarray(photo))


@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
@pytest.mark.parametrize("size", [64, 400])
def test_every_point_lands_where_the_quad_says(degrees: float, size: int) -> None:
    quad = turned_quad((130.3, 108.7), 90, degrees)
    for u, v in ((0.5, 0.5), (0.35, 0.6), (0.7, 0.4)):
        face = Image.new("RGB", (size, size), "black")
        radius = size / 20
        box = (u * size - radius, v * size - radius, u * size + radius, v * size + radius)
        ImageDraw.Draw(face).ellipse(box, "white")
        pasted = np.asarray(paste_back(Image.new("RGB", (260, 220)), face, quad), float)[..., 0]
        rows, columns = np.indices(pasted.shape)
        found = np.array([(columns * pasted).sum(), (rows * pasted).sum()]) / pasted.sum()
        expected = quad[0] + u * (quad[3] - quad[0]) + v * (quad[1] - quad[0])
        assert np.abs(found - expected).max() < 0.5


def test_the_mask_is_one_inside_and_falls_to_nothing() -> None:
    quad = turned_quad((50, 50), 60, 20)
    mask = soft_mask(quad, (0, 0, 100, 100))
    assert mask[50, 50] == 1
    assert 0.3 < mask.sum() / 60**2 < 0.9
    assert np.abs(np.diff(mask, axis=0)).max() < 0.3
    rows, columns = np.nonzero(mask)
    inverse = np.linalg.inv(np.stack([quad[3] - quad[0], quad[1] - quad[0]], axis=1))
    places = (np.stack([columns, rows], axis=1) - quad[0]) @ inverse.T
    assert places.min() > -0.01
    assert places.max() < 1.01
    np.testing.assert_array_equal(soft_mask(quad, (20, 30, 70, 90)), mask[30:90, 20:70])


def test_only_what_changed_is_added() -> None:
    photo, original = noise(120, 120), noise(64, 64, 1)
    dark = Image.fromarray((np.asarray(photo) // 2 + 40).astype(np.uint8))
    lighter = Image.fromarray(np.clip(np.asarray(original, int), 0, 235).astype(np.uint8))
    brighter = Image.fromarray((np.asarray(lighter, int) + 20).astype(np.uint8))
    quad = turned_quad((60, 60), 80, 10)
    pasted = paste_back(dark, brighter, quad, original=lighter)
    difference = np.asarray(pasted, int) - np.asarray(dark, int)
    mask = soft_mask(quad, (0, 0, 120, 120))
    np.testing.assert_allclose(difference[mask == 1], 20, atol=1)
    assert not difference[mask == 0].any()


@pytest.mark.parametrize("centre", [(0, 0), (119, 60), (60, -20), (500, 500), (-300, 60)])
def test_a_face_may_leave_the_photograph(centre: tuple[float, float]) -> None:
    photo = noise(120, 100)
    quad = turned_quad(centre, 80, 15)
    pasted = np.asarray(paste_back(photo, Image.new("RGB", (64, 64), "red"), quad))
    mask = soft_mask(quad, (0, 0, 120, 100))
    assert (pasted[mask == 1] == (255, 0, 0)).all()
    np.testing.assert_array_equal(pasted[mask == 0], np.asarray(photo)[mask == 0])


@pytest.mark.parametrize("feather", [0, -1, 1.1, float("nan")])
def test_impossible_feathers_are_refused(feather: float) -> None:
    with pytest.raises(SpecError, match="feather"):
        paste_back(noise(50, 50), noise(8, 8), turned_quad((25, 25), 20, 0), feather=feather)
