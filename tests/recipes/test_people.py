"""The photoreal sample photographs are what their recipe and their README say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.samples.people import MAX_BYTES, catalogue, encode
from restyle.core.faces.alignment import align_faces
from restyle.core.imaging.decoding import decode_image

FOLDER = Path(__file__).resolve().parents[2] / "samples" / "people"


def test_folder_holds_the_catalogue_and_the_licence() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert names == catalogue().keys() | {"LICENSE"}
    assert len(names) == 13
    assert sum((FOLDER / name).stat().st_size for name in names) < MAX_BYTES
    assert "MIT License" in (FOLDER / "LICENSE").read_text()


@pytest.mark.parametrize("name", catalogue())
def test_photograph_has_one_face_that_is_not_enlarged(name: str) -> None:
    image = decode_image((FOLDER / name).read_bytes())
    assert max(image.size) == catalogue()[name][1]
    (face,) = align_faces(image, faces="all")
    sides = np.linalg.norm(np.roll(face.quad, -1, axis=0) - face.quad, axis=1)
    assert sides.min() > 256


@pytest.mark.parametrize("size", [(1696, 2528), (2048, 2048), (50, 20)])
def test_reduction_keeps_the_aspect(size: tuple[int, int], tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, size[0]).astype(np.uint8)
    picture = Image.fromarray(np.broadcast_to(ramp[None, :, None], (size[1], size[0], 3)).copy())
    (tmp_path / "a.jpg").write_bytes(encode(picture, 1264))
    with Image.open(tmp_path / "a.jpg") as image:
        assert max(image.size) == 1264
        assert image.width * size[1] == pytest.approx(image.height * size[0], rel=0.01)
        row = np.asarray(image.convert("L"), np.float32)[image.height // 2]
    assert np.abs(row - np.linspace(0, 255, len(row))).mean() < 2
