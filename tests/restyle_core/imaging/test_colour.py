"""Pixels become sRGB by the profile of their file, against the definitions of the spaces."""

from __future__ import annotations

import io
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from restyle.core.imaging.decoding import decode, decode_image
from restyle.core.imaging.upright import upright_rgb
from tests.restyle_core.icc import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    encoded,
    grey_profile,
    ink_profile,
    rgb_profile,
    srgb_of,
)

SPACES = {
    "Display P3": (DISPLAY_P3, 2.2),
    "Adobe RGB": (ADOBE_RGB, 563 / 256),
    "ProPhoto": (PROPHOTO, 1.8),
    "linear sRGB": (SRGB, 1.0),
}


def colours(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    blue = (x * y * 255) // ((width - 1) * (height - 1))
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), blue], -1).astype(np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("space", SPACES)
def test_rgb_profiles_mean_what_they_say(space: str, kind: str) -> None:
    primaries, gamma = SPACES[space]
    pixels = colours()
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(
        Image.fromarray(pixels), kind, icc_profile=rgb_profile(primaries, gamma), **options
    )
    decoded = decode(data)
    expected = srgb_of(pixels, primaries, gamma)
    difference = np.abs(np.asarray(decoded.image) - expected)
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99) < 2
    # Without the profile it would be far off.
    assert np.abs(pixels - expected).mean() > 2
    assert not decoded.notes
    assert not decoded.image.info


def test_a_reduced_jpeg_is_converted_too() -> None:
    pixels = np.asarray(Image.fromarray(colours()).resize((640, 480), Image.Resampling.BILINEAR))
    profile = rgb_profile(DISPLAY_P3, 2.2)
    data = saved(Image.fromarray(pixels), "JPEG", quality=97, icc_profile=profile)
    small = np.asarray(decode(data, (80, 60)).image).astype(int)
    whole = decode_image(data).resize((80, 60), Image.Resampling.BILINEAR)
    assert np.abs(small - np.asarray(whole)).mean() < 1
    plain = decode_image(saved(Image.fromarray(pixels), "JPEG", quality=97))
    assert np.abs(small - np.asarray(plain.resize((80, 60)), int)).mean() > 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_profiles(mode: str) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (40, 1))
    image = Image.fromarray(ramp)
    if mode == "LA":
        image.putalpha(255)
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    kind = "TIFF" if mode == "I;16" else "PNG"
    decoded = np.asarray(decode_image(saved(image, kind, icc_profile=grey_profile(1.0))))
    assert np.abs(decoded - encoded(ramp / 255.0)[..., None]).max() < 1.5


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_printed(kind: str) -> None:
    """Half of black is L* 50, which is 119 in sRGB and not 128."""
    ink = np.zeros((40, 256, 4), np.uint8)
    ink[..., 3] = np.arange(256)
    image = Image.frombytes("CMYK", (256, 40), ink.tobytes())
    options = {"quality": 99, "subsampling": 0} if kind == "JPEG" else {}
    found = np.asarray(decode_image(saved(image, kind, icc_profile=ink_profile(), **options)))
    lightness = 100 * (1 - np.arange(256) / 255)
    light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert np.abs(found - encoded(light)[None, :, None]).max() < (6 if kind == "JPEG" else 2.5)
    assert abs(int(found[20, 128, 0]) - 119) <= 3


def test_transparency_over_a_profile() -> None:
    pixels = colours()
    image = Image.fromarray(pixels)
    image.putalpha(Image.new("L", image.size, 102))
    data = saved(image, icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    expected = 0.4 * srgb_of(pixels, DISPLAY_P3, 2.2) + 0.6 * 255
    assert np.abs(np.asarray(decode_image(data)) - expected).max() < 2.5


def test_a_palette_has_the_colours_of_its_profile() -> None:
    image = Image.frombytes("P", (64, 48), bytes(i % 3 for i in range(64 * 48)))
    table = np.array([[250, 10, 20], [5, 200, 60], [90, 120, 255]], np.uint8)
    image.putpalette(table.tobytes())
    found = np.asarray(decode_image(saved(image, icc_profile=rgb_profile(ADOBE_RGB, 2.2))))
    expected = srgb_of(table, ADOBE_RGB, 2.2)
    assert np.abs(found.reshape(-1, 3)[:3] - expected).max() < 2.5


SRGB_PROFILES = {
    "Pillow's": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "none": b"",
}


@pytest.mark.parametrize("name", SRGB_PROFILES)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_srgb_stays_as_it_is(name: str, mode: str) -> None:
    image = Image.fromarray(colours()).convert(mode)
    found = decode_image(saved(image, icc_profile=SRGB_PROFILES[name] or None))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(image.convert("RGB")))


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    chunk = struct.pack(">I", len(content)) + kind + content
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(kind + content)) + png[33:]


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 1 / 2.8])
def test_png_says_its_gamma(gamma: float) -> None:
    pixels = colours()
    png = saved(Image.fromarray(pixels))
    marked = with_chunk(png, b"gAMA", struct.pack(">I", round(100_000 * gamma)))
    found = np.asarray(decode_image(marked))
    assert np.abs(found - encoded((pixels / 255.0) ** (1 / gamma))).max() <= 0.51
    # A chunk that says more goes first, and that of every screen says nothing new.
    plain = with_chunk(marked, b"sRGB", b"\0")
    usual = with_chunk(png, b"gAMA", struct.pack(">I", 45455))
    for data in (plain, usual):
        np.testing.assert_array_equal(np.asarray(decode_image(data)), pixels)


BROKEN = {
    "cut off": rgb_profile(DISPLAY_P3, 2.2)[:200],
    "noise": bytes(range(256)) * 3,
    "of another space": grey_profile(2.2),
    "of inks": ink_profile(),
    "a link between devices": rgb_profile(DISPLAY_P3, 2.2, b"link"),
    "without curves": rgb_profile(DISPLAY_P3, 2.2).replace(b"rTRC", b"xTRC"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_profile_is_a_note(name: str, caplog: pytest.LogCaptureFixture) -> None:
    data = saved(Image.fromarray(colours()), icc_profile=BROKEN[name])
    decoded = decode(data)
    np.testing.assert_array_equal(np.asarray(decoded.image), colours())
    (note,) = decoded.notes
    assert note.startswith("its colour profile cannot be used (")
    assert "\n" not in note
    with caplog.at_level(logging.WARNING):
        decode_image(data)
    assert note in caplog.text


def test_pictures_that_others_opened_are_converted_too() -> None:
    data = saved(Image.fromarray(colours()), icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    for opened in (Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data)).convert("RGB")):
        np.testing.assert_array_equal(
            np.asarray(upright_rgb(opened)), np.asarray(decode_image(data))
        )
