"""A process that aligns a photograph of 50 megapixels stays below 600 MB."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from restyle.core.errors import RejectError
from restyle.pipeline.decoding.sandbox import CropSettings, IsolatedCropper

LIMIT = 600_000
"""Kilobytes."""

ORIENTATION = 0x0112


def peak(cropper: IsolatedCropper) -> int:
    """Largest resident memory of the child so far, in kilobytes."""
    assert cropper._child is not None
    status = Path(f"/proc/{cropper._child.process._process.pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def encoded(photo: Image.Image, kind: str, *, is_turned: bool) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    if is_turned:
        photo = photo.transpose(Image.Transpose.ROTATE_90)
        exif[ORIENTATION] = 6
    photo.save(file, kind, exif=exif, progressive=is_turned, compress_level=1)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "is_turned"), [("JPEG", False), ("JPEG", True), ("PNG", False)])
def test_fifty_megapixels_fit(photos: Path, kind: str, is_turned: bool) -> None:
    photo = (
        Image.open(photos / "smile.jpg")
        .convert("RGB")
        .resize((8192, 6144), Image.Resampling.BILINEAR)
    )
    cropper = IsolatedCropper(CropSettings(align=True, faces="largest", size=(256, 256)))
    try:
        (found,) = cropper([encoded(photo, kind, is_turned=is_turned)])
        assert isinstance(found, list)
        # Decoding alone takes 200 MB: Pillow has four bytes for each pixel.
        assert 300_000 < peak(cropper) < LIMIT
    finally:
        cropper.close()


@pytest.mark.parametrize(("detector", "kind"), [("auto", "JPEG"), ("cnn", "JPEG"), ("cnn", "PNG")])
def test_the_convolutional_detector_has_no_part_in_it(detector: str, kind: str) -> None:
    """Nor has a photograph that was rejected before: a second one takes as much as the first."""
    head = Image.fromarray(data.astronaut()).transpose(Image.Transpose.ROTATE_90)
    photo = head.resize((8192, 6144), Image.Resampling.BILINEAR)
    faceless = Image.fromarray(data.chelsea()).resize((8192, 6144), Image.Resampling.BILINEAR)
    cropper = IsolatedCropper(
        CropSettings(align=True, faces="largest", size=(256, 256), detector=detector)  # type: ignore[arg-type]
    )
    try:
        (rejected,) = cropper([encoded(faceless, kind, is_turned=False)])
        assert isinstance(rejected, RejectError)
        (found,) = cropper([encoded(photo, kind, is_turned=kind == "JPEG")])
        assert isinstance(found, list)
        assert found[0].detector == "cnn"
        assert 300_000 < peak(cropper) < LIMIT
    finally:
        cropper.close()
