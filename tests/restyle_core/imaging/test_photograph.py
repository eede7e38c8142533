"""A photograph comes back as it was: its own colours, its metadata, upright once."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from restyle.core.editing.paste_back import paste_back, soft_mask
from restyle.core.imaging.decoding import decode_image
from restyle.core.imaging.photograph import read_photograph
from tests.restyle_core.icc import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    grey_profile,
    ink_profile,
    rgb_profile,
    srgb_of,
)

PROFILE = rgb_profile(DISPLAY_P3, 2.2)
MAKER_NOTE = b"Maker\0" + bytes(range(200))
QUAD = np.array([(60.0, 40.0), (60.0, 120.0), (140.0, 120.0), (140.0, 40.0)])


def scene(height: int = 160, width: int = 240) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    blue = np.where((x < width // 3) & (y < height // 3), 250, 5)
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), blue], -1).astype(np.uint8)


def exif_with_thumbnail(orientation: int, thumbnail: bytes, order: str = "<") -> bytes:
    """IFD0 with Make, orientation and an Exif IFD that has a maker's note; IFD1 with a thumbnail.

    Laid out as a camera does, and by hand: Pillow writes no thumbnails.
    """

    def ifd(fields: list[tuple[int, int, int, bytes]], following: int) -> bytes:
        body = b"".join(struct.pack(order + "HHI", *f[:3]) + f[3].ljust(4, b"\0") for f in fields)
        return struct.pack(order + "H", len(fields)) + body + struct.pack(order + "I", following)

    def long(value: int) -> bytes:
        return struct.pack(order + "I", value)

    def short(value: int) -> bytes:
        return struct.pack(order + "H", value)

    first = 8
    below = first + 2 + 3 * 12 + 4
    second = below + 2 + 3 * 12 + 4
    note = second + 2 + 4 * 12 + 4
    picture = note + len(MAKER_NOTE)
    head = (b"II*\0" if order == "<" else b"MM\0*") + long(first)
    return b"Exif\0\0" + head + ifd(
        [(0x010F, 2, 4, b"Cam\0"), (0x0112, 3, 1, short(orientation)), (0x8769, 4, 1, long(below))],
        second,
    ) + ifd(
        [(0x927C, 7, len(MAKER_NOTE), long(note)), (0xA002, 4, 1, long(240)),
         (0xA003, 3, 1, short(160))], 0,
    ) + ifd(
        [(0x0103, 3, 1, short(6)), (0x0112, 3, 1, short(orientation)),
         (0x0201, 4, 1, long(picture)), (0x0202, 4, 1, long(len(thumbnail)))], 0,
    ) + MAKER_NOTE + thumbnail  # fmt: skip


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def camera_photo(orientation: int = 1, order: str = "<", **options: object) -> bytes:
    image = Image.fromarray(scene())
    small = saved(image.resize((120, 80)), quality=70)
    return saved(
        image, quality=95, icc_profile=PROFILE,
        exif=exif_with_thumbnail(orientation, small, order), **options,
    )  # fmt: skip


def thumbnail_of(image: Image.Image) -> Image.Image:
    ifd = image.getexif().get_ifd(ExifTags.IFD.IFD1)
    at, length = ifd[0x0201], ifd[0x0202]
    return Image.open(io.BytesIO(image.info["exif"].removeprefix(b"Exif\0\0")[at : at + length]))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 6, 3, 8])
def test_an_unedited_photograph_comes_back(orientation: int, order: str) -> None:
    data = camera_photo(orientation, order)
    photo = read_photograph(data)
    crop = Image.new("RGB", (64, 64), (90, 200, 30))
    face = photo.in_its_colours(crop)
    pasted = paste_back(photo.pixels, face, QUAD, original=face)
    result = Image.open(io.BytesIO(photo.encoded(pasted)))
    result.load()

    stored = Image.open(io.BytesIO(data))
    turns = {1: 0, 6: 3, 3: 2, 8: 1}[orientation]
    np.testing.assert_array_equal(np.asarray(result), np.rot90(np.asarray(stored), turns))
    assert result.info["icc_profile"] == PROFILE
    exif = result.getexif()
    assert exif[ExifTags.Base.Make] == "Cam"
    assert exif[ExifTags.Base.Orientation] == 1
    below = exif.get_ifd(ExifTags.IFD.Exif)
    assert below[0x927C] == MAKER_NOTE
    assert (below[0xA002], below[0xA003]) == result.size
    # A viewer that decodes it again turns nothing, and sees what it saw before.
    np.testing.assert_array_equal(
        np.asarray(decode_image(photo.encoded(pasted))), np.asarray(decode_image(data))
    )
    thumbnail = thumbnail_of(result)
    assert thumbnail.size == ((120, 80) if turns % 2 == 0 else (80, 120))
    expected = np.asarray(result.resize(thumbnail.size), int)
    assert np.abs(np.asarray(thumbnail) - expected).mean() < 12
    if orientation == 1:
        assert result.info["exif"] == stored.info["exif"]


def test_the_thumbnail_shows_the_edit_and_nothing_of_what_was_there() -> None:
    data = camera_photo()
    photo = read_photograph(data)
    old = saved(Image.fromarray(scene()).resize((120, 80)), quality=70)
    pasted = paste_back(photo.pixels, Image.new("RGB", (64, 64), "white"), QUAD)
    content = photo.encoded(pasted)
    result = Image.open(io.BytesIO(content))
    result.load()
    thumbnail = np.asarray(thumbnail_of(result), int)
    expected = np.asarray(result.resize((120, 80), Image.Resampling.BICUBIC), int)
    assert np.abs(thumbnail - expected).mean() < 4
    assert thumbnail[40, 50].min() > 230
    assert old[-200:] not in content


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB", "ProPhoto"])
def test_outside_of_the_mask_nothing_changes_and_inside_the_colour_is_meant(name: str) -> None:
    primaries = {"Display P3": DISPLAY_P3, "Adobe RGB": ADOBE_RGB, "ProPhoto": PROPHOTO}[name]
    profile = rgb_profile(primaries, 2.2)
    data = saved(Image.fromarray(scene()), "PNG", icc_profile=profile)
    photo = read_photograph(data)
    colour = (180, 120, 60)
    face = photo.in_its_colours(Image.new("RGB", (64, 64), colour))
    content = photo.encoded(paste_back(photo.pixels, face, QUAD))
    result = np.asarray(Image.open(io.BytesIO(content)))
    mask = soft_mask(QUAD, (0, 0, 240, 160))
    np.testing.assert_array_equal(result[mask == 0], scene()[mask == 0])
    shown = srgb_of(result[mask == 1], primaries, 2.2)
    assert np.abs(shown - colour).max() < 3
    assert np.abs(np.asarray(decode_image(content))[mask == 1] - np.array(colour)).max() < 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_formats_keep_their_data(kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Somebody"
    exif[ExifTags.Base.Orientation] = 6
    image = Image.fromarray(scene())
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(image, kind, exif=exif, icc_profile=PROFILE, **options)
    photo = read_photograph(data)
    result = Image.open(io.BytesIO(photo.encoded(photo.pixels)))
    result.load()
    np.testing.assert_array_equal(np.asarray(result), np.rot90(scene(), 3))
    assert result.getexif()[ExifTags.Base.Artist] == "Somebody"
    assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert result.info["icc_profile"] == PROFILE


@pytest.mark.parametrize("profile", [b"", PROFILE], ids=["sRGB", "profile"])
@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGBA"), ("WEBP", "RGBA"), ("TIFF", "RGBA"), ("PNG", "P")]
)
def test_transparency_is_kept(kind: str, mode: str, profile: bytes) -> None:
    expected = np.dstack([scene(), np.linspace(0, 255, scene()[..., 0].size).reshape(160, 240)])
    image = Image.fromarray(expected.astype(np.uint8))
    options: dict[str, object] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    if mode == "P":
        image = image.convert("RGB").quantize(64)
        options["transparency"] = 3
    if profile:
        options["icc_profile"] = profile
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = saved(image, kind, exif=exif, **options)
    photo = read_photograph(data)
    result = Image.open(io.BytesIO(photo.encoded(photo.pixels)))
    assert result.mode == "RGBA"
    with Image.open(io.BytesIO(data)) as given:
        # Pillow turns TIFF files itself.
        original = np.rot90(np.asarray(given.convert("RGBA")), 0 if kind == "TIFF" else 3)
    assert np.ptp(original[..., 3]) == 255
    np.testing.assert_array_equal(np.asarray(result), original)
    assert result.info.get("icc_profile", b"") == profile


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_what_has_no_rgb_profile_becomes_srgb(mode: str) -> None:
    profile = {"L": grey_profile(1.0), "CMYK": ink_profile()}[mode]
    data = saved(Image.fromarray(scene()).convert(mode), "TIFF", icc_profile=profile)
    photo = read_photograph(data)
    assert not photo.profile
    np.testing.assert_array_equal(np.asarray(photo.pixels), np.asarray(decode_image(data)))
    result = Image.open(io.BytesIO(photo.encoded(photo.pixels)))
    assert "icc_profile" not in result.info


@pytest.mark.parametrize(
    "told", [b'tiff:Orientation="6"', b"<tiff:Orientation>6</tiff:Orientation>"]
)
def test_xmp_does_not_turn_it_again(told: bytes) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d ' + told + b' dc="Hill"/></x:xmpmeta>'
    photo = read_photograph(camera_photo(6, xmp=xmp))
    result = Image.open(io.BytesIO(photo.encoded(photo.pixels)))
    result.load()
    assert b'dc="Hill"' in result.info["xmp"]
    assert result.info["xmp"] == xmp.replace(b"6", b"1")


@pytest.mark.parametrize("cut", [9, 20, 60, 130])
def test_damaged_metadata_costs_the_metadata_alone(cut: int) -> None:
    small = saved(Image.fromarray(scene()).resize((120, 80)), quality=70)
    broken = exif_with_thumbnail(6, small)[:cut]
    photo = read_photograph(saved(Image.fromarray(scene()), "PNG", exif=broken))
    result = Image.open(io.BytesIO(photo.encoded(photo.pixels)))
    result.load()
    assert sorted(result.size) == [160, 240]
    assert result.getexif().get(ExifTags.Base.Orientation, 1) in (1, 6)
    np.testing.assert_array_equal(np.asarray(decode_image(photo.encoded(photo.pixels))),
                                  np.asarray(photo.pixels))  # fmt: skip
