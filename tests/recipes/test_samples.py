"""The photographs that ship with the project are what their README says."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from recipes.samples.catalogue import PHOTOS, Photo
from recipes.samples.rejects import EXPECTED
from restyle.core.errors import RejectError, RejectReason
from restyle.core.faces.alignment import find_landmarks
from restyle.core.imaging.decoding import decode_image

ROOT = Path(__file__).resolve().parents[2] / "samples" / "photos"
UNUSABLE = ROOT / "unusable"


def test_folder_holds_exactly_the_catalogue() -> None:
    usable = {photo.name for photo in PHOTOS}
    unusable = {f"unusable/{name}" for name in EXPECTED}
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()}
    assert files == usable | unusable
    assert len(usable) >= 24
    assert sum((ROOT / name).stat().st_size for name in files) < 2_500_000


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.name)
def test_photo_has_its_faces(photo: Photo) -> None:
    image = decode_image((ROOT / photo.name).read_bytes())
    assert min(image.size) >= 256
    assert len(find_landmarks(image)) == photo.faces


def test_photos_cover_formats_and_modes() -> None:
    formats, modes, orientations = set(), set(), set()
    for photo in PHOTOS:
        with Image.open(ROOT / photo.name) as image:
            formats.add(image.format)
            modes.add(image.mode)
            orientations.add(image.getexif().get(0x0112, 1))
    assert formats >= {"JPEG", "PNG", "WEBP", "TIFF"}
    assert modes >= {"RGB", "L", "RGBA"}
    assert orientations >= {1, 3, 6}


@pytest.mark.parametrize(("name", "reason"), EXPECTED.items())
def test_unusable_inputs(name: str, reason: RejectReason | None) -> None:
    data = (UNUSABLE / name).read_bytes()
    if reason is None:
        assert not find_landmarks(decode_image(data))
        return
    with pytest.raises(RejectError) as caught:
        decode_image(data)
    assert caught.value.reason == reason
