"""Formats that people have: read, or named with what to do."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, TiffImagePlugin

from restyle.core.errors import RejectError, RejectReason
from restyle.core.imaging.decoding import decode, decode_image
from tests.restyle_core.icc import DISPLAY_P3, rgb_profile, srgb_of


def scene(height: int = 96, width: int = 128) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    blue = np.where((x < width // 3) & (y < height // 3), 230, 40)
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), blue], -1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heic(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, chroma=444, **options)
    return buffer.getvalue()


def difference(data: bytes, expected: np.ndarray) -> float:
    found = np.asarray(decode_image(data)).astype(int)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).mean())


# --- read ---


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heic(mode: str) -> None:
    pixels = scene()
    image = Image.fromarray(pixels).convert(mode)
    assert difference(heic(image), np.asarray(image.convert("RGB"))) < 2


def test_heic_with_a_profile_is_converted() -> None:
    pixels = scene()
    data = heic(Image.fromarray(pixels), icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    assert difference(data, srgb_of(pixels, DISPLAY_P3, 2.2)) < 2


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, 3), (3, 2)])
def test_heic_is_turned_upright_once(orientation: int, turns: int) -> None:
    """The container turns the picture, and a copy of the same fact in its EXIF must not again."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = heic(Image.fromarray(scene()), exif=exif.tobytes())
    assert difference(data, np.rot90(scene(), turns)) < 2


def test_of_several_pictures_in_a_heic_the_first_is_the_photograph() -> None:
    file = pillow_heif.from_pillow(Image.fromarray(scene()))
    file.add_from_pillow(Image.new("RGB", (128, 96), "red"))
    buffer = io.BytesIO()
    file.save(buffer, quality=95)
    assert difference(buffer.getvalue(), scene()) < 3


@pytest.mark.parametrize("cut", [0.05, 0.5, 0.97])
def test_a_heic_that_is_cut_off_is_damaged(cut: float) -> None:
    data = heic(Image.fromarray(scene()))
    with pytest.raises(RejectError) as caught:
        decode_image(data[: int(cut * len(data))])
    assert caught.value.reason is RejectReason.TRUNCATED


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("size", [None, (40, 30)])
def test_a_jpeg_may_lack_its_end(
    progressive: bool, lost: int, size: tuple[int, int] | None
) -> None:
    image = Image.fromarray(scene(480, 640))
    data = saved(image, "JPEG", quality=90, progressive=progressive)
    assert data.endswith(b"\xff\xd9")
    whole, cut = decode(data, size), decode(data[:-lost], size)
    np.testing.assert_array_equal(np.asarray(cut.image), np.asarray(whole.image))
    assert cut.size == whole.size


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpegs_may_lack_their_end(mode: str) -> None:
    data = saved(Image.fromarray(scene()).convert(mode), "JPEG", quality=90)
    np.testing.assert_array_equal(
        np.asarray(decode_image(data[:-2])), np.asarray(decode_image(data))
    )


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_a_jpeg_that_lacks_pixels_is_damaged(share: float) -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(scene(240, 320) + rng.normal(0, 20, (240, 320, 3)), 0, 255).astype(np.uint8)
    data = saved(Image.fromarray(noisy), "JPEG", quality=90)
    with pytest.raises(RejectError) as caught:
        decode_image(data[: int(share * len(data))])
    assert caught.value.reason is RejectReason.TRUNCATED


def tiff(*pages: tuple[np.ndarray, int]) -> bytes:
    """Pages with their NewSubfileType."""
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer) as writer:
        for pixels, kind in pages:
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            if kind:
                tags[254] = kind
            Image.fromarray(pixels).save(writer, "TIFF", tiffinfo=tags)
            writer.newFrame()
    return buffer.getvalue()


FULL, SMALL = scene(240, 320), scene(60, 80)
ONE_PICTURE = {
    "a thumbnail behind it": tiff((FULL, 0), (SMALL, 1)),
    "a thumbnail before it": tiff((SMALL, 1), (FULL, 0)),
    "an unmarked thumbnail": tiff((FULL, 0), (SMALL, 0)),
    "a pyramid": tiff((FULL, 0), (scene(120, 160), 0), (SMALL, 0), (scene(30, 40), 0)),
    "a mask": tiff((FULL, 0), (FULL // 2, 4)),
    "a rounded thumbnail": tiff((FULL, 0), (scene(50, 67), 0)),
}


@pytest.mark.parametrize("name", ONE_PICTURE)
def test_the_one_picture_of_a_tiff_is_used(name: str) -> None:
    np.testing.assert_array_equal(np.asarray(decode_image(ONE_PICTURE[name])), FULL)


@pytest.mark.parametrize("other", [FULL[::-1], scene(200, 200), scene(240, 321)])
def test_two_pictures_in_a_tiff_are_a_choice(other: np.ndarray) -> None:
    with pytest.raises(RejectError) as caught:
        decode_image(tiff((FULL, 0), (np.ascontiguousarray(other), 0)))
    assert caught.value.reason is RejectReason.ANIMATED


def video() -> bytes:
    return struct.pack(">I", 24) + b"ftypmp42" + bytes(12) + struct.pack(">I", 4096) + b"mdat" * 999


@pytest.mark.parametrize("name", ["behind the end", "in an index", "with a broken index"])
def test_of_a_motion_photo_the_picture_is_used(name: str) -> None:
    image = Image.fromarray(scene())
    data = saved(image, "JPEG", quality=95)
    if name != "behind the end":
        data = saved(image, "MPO", quality=95, save_all=True, append_images=[image])
    if name == "with a broken index":
        at = data.index(b"MPF\0")
        data = data[: at + 20] + b"\xff" * 30 + data[at + 50 :]
    assert difference(data + video(), scene()) < 3


# --- named ---


def raw(first: dict[int, int], order: str = "<") -> bytes:
    """The beginning of a raw file that is laid out as TIFF: a small preview, and what tells it."""
    fields = {256: 160, 257: 120, 258: 8, 259: 1, 262: 2, 277: 3, 273: 512, 278: 120,
              279: 160 * 120 * 3, **first}  # fmt: skip
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(fields))
    for tag in sorted(fields):
        head += struct.pack(order + "HHII", tag, 4, 1, fields[tag])
    return (head + bytes(4)).ljust(512, b"\0") + bytes(160 * 120 * 3)


NAMED = {
    "jxl": (b"\xff\x0a" + bytes(50), "JPEG XL.*pip install pillow-jxl-plugin"),
    "jxl in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL"),
    "nef": (raw({254: 1, 330: 400}), "raw file of a camera"),
    "arw": (raw({254: 1, 330: 400}, ">"), "raw file of a camera"),
    "pef": (raw({262: 32803}), "raw file of a camera"),
    "dng": (raw({50706: 0x0104}), "raw file of a camera.*darktable"),
    "cr2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(100), "raw file of a camera"),
    "cr3": (b"\0\0\0\x18ftypcrx " + bytes(50), "raw file of a camera"),
    "raf": (b"FUJIFILMCCD-RAW 0201" + bytes(50), "raw file of a camera"),
    "ico": (b"\0\0\1\0\1\0" + bytes(50), "convert it to PNG"),
}
NO_IMAGES = {
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "drawing"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "drawing.*PNG"),
    "pdf": (b"%PDF-1.7\n" + bytes(50), "PDF document.*pdfimages"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "Git LFS pointer.*git lfs pull",
    ),
    "annex": (b"../.git/annex/objects/aa/bb/MD5E-s1--0.jpg", "git annex get"),
    "html": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page.*download it again"),
    "xhtml": (b'<?xml version="1.0"?><!-- x --><html xmlns="x">', "HTML page"),
    "s3 error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML document"),
    "json": (b'{"error": "quota"}', "JSON text"),
    "mp4": (video(), "video.*ffmpeg"),
    "mov": (b"\0\0\0\x14ftypqt  " + bytes(50), "video"),
    "zip": (b"PK\x03\x04" + bytes(50), "packed archive"),
}
ALL = {
    **{name: (*case, RejectReason.UNSUPPORTED_FORMAT) for name, case in NAMED.items()},
    **{name: (*case, RejectReason.NOT_AN_IMAGE) for name, case in NO_IMAGES.items()},
}


@pytest.mark.parametrize("name", ALL)
def test_what_cannot_be_read_is_named(name: str) -> None:
    data, words, reason = ALL[name]
    with pytest.raises(RejectError, match=f"^this is .*{words}") as caught:
        decode_image(data)
    assert caught.value.reason is reason
    assert "\n" not in str(caught.value)


def test_text_is_still_text() -> None:
    with pytest.raises(RejectError, match=r"begin like no image format.*HEIC") as caught:
        decode_image(b"not an image\n")
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE


def test_a_tiff_of_photoshop_is_no_raw_file(tmp_path: Path) -> None:
    """It has directories below its own as well, of which the picture is not one."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[330] = 8
    data = saved(Image.fromarray(FULL), "TIFF", tiffinfo=tags)
    np.testing.assert_array_equal(np.asarray(decode_image(data)), FULL)
