"""Every kind of file becomes upright 8-bit RGB or a reason; nothing else ever comes out."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin

from restyle.core.errors import RejectError, RejectReason
from restyle.core.imaging.decoding import MAX_PIXELS, decode_image, decode_resized
from restyle.core.imaging.upright import upright_rgb


def scene(height=48, width=64):
    """Smooth colours with a hard edge, uint8 [h, w, 3], different in every corner."""
    y, x = np.mgrid[:height, :width]
    red, green = x * 255 // (width - 1), y * 255 // (height - 1)
    blue = np.where((x < width // 3) & (y < height // 3), 230, 40)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(data):
    image = decode_image(data)
    assert image.mode == "RGB"
    assert not image.info
    return np.asarray(image).astype(int)


def reason(data, **options):
    with pytest.raises(RejectError) as caught:
        decode_image(data, **options)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return caught.value.reason


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "QOI"])
def test_lossless_formats_are_exact(file_format):
    pixels = scene()
    data = encode(Image.fromarray(pixels), file_format)
    np.testing.assert_array_equal(decode(data), pixels)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("AVIF", {"quality": 95}),
        ("JPEG2000", {}),
    ],
)
def test_photographic_formats_are_close(file_format, options):
    pixels = scene()
    data = encode(Image.fromarray(pixels), file_format, **options)
    assert np.abs(decode(data) - pixels).mean() < 4


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
def test_grey(file_format):
    grey = np.arange(48 * 64, dtype=np.int64).reshape(48, 64) * 255 // (48 * 64)
    data = encode(Image.fromarray(grey.astype(np.uint8)), file_format)
    assert np.abs(decode(data) - grey[..., None]).max() <= (8 if file_format == "JPEG" else 0)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
def test_one_bit(file_format):
    bits = (np.add.outer(np.arange(48) // 8, np.arange(64) // 8) % 2).astype(bool)
    data = encode(Image.fromarray(bits), file_format)
    np.testing.assert_array_equal(decode(data), np.repeat(bits[..., None] * 255, 3, axis=2))


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "TIFF", "BMP"])
def test_palette(file_format):
    colours = np.array([[250, 10, 20], [5, 200, 60], [0, 0, 255], [255, 255, 0]], np.uint8)
    index = (np.add.outer(np.arange(48) // 9, np.arange(64) // 9) % 4).astype(np.uint8)
    image = Image.fromarray(index, mode=None)
    image = Image.frombytes("P", (64, 48), index.tobytes())
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(decode(encode(image, file_format)), colours[index])


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_palette_with_transparency_is_composed_over_white(file_format):
    colours = np.array([[250, 10, 20], [5, 200, 60]], np.uint8)
    index = np.zeros((48, 64), np.uint8)
    index[:, 32:] = 1
    image = Image.frombytes("P", (64, 48), index.tobytes())
    image.putpalette(colours.tobytes())
    pixels = decode(encode(image, file_format, transparency=0))
    assert (pixels[:, :32] == 255).all()
    assert (pixels[:, 32:] == colours[1]).all()


def test_palette_with_an_alpha_per_colour():
    image = Image.frombytes("P", (64, 48), bytes(48 * 64))
    image.putpalette(bytes([200, 100, 0]))
    pixels = decode(encode(image, "PNG", transparency=bytes([51])))
    # 51 / 255 = 0.2 of the colour over white.
    assert np.abs(pixels - (0.2 * np.array([200, 100, 0]) + 0.8 * 255)).max() <= 1


def test_rgb_with_a_transparent_colour():
    pixels = np.full((48, 64, 3), (10, 20, 30), np.uint8)
    pixels[:, 32:] = (90, 80, 70)
    decoded = decode(encode(Image.fromarray(pixels), "PNG", transparency=(10, 20, 30)))
    assert (decoded[:, :32] == 255).all()
    assert (decoded[:, 32:] == (90, 80, 70)).all()


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composed_over_white(file_format, mode):
    alpha = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (48, 64))
    colour = scene()
    base = Image.fromarray(colour).convert(mode[:-1])
    image = base.copy()
    image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    assert image.mode == mode
    share = alpha[..., None] / 255
    expected = np.asarray(base.convert("RGB")) * share + 255 * (1 - share)
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    assert np.abs(decode(encode(image, file_format, **options)) - expected).max() <= 1.01


def test_cmyk_tiff():
    rng = np.random.default_rng(0)
    ink = rng.integers(0, 256, (48, 64, 4), dtype=np.uint8)
    data = encode(Image.frombytes("CMYK", (64, 48), ink.tobytes()), "TIFF")
    light = 255 - ink.astype(float)
    assert np.abs(decode(data) - light[..., :3] * light[..., 3:] / 255).max() <= 1


def test_cmyk_jpeg():
    image = Image.fromarray(scene()).convert("CMYK")
    assert np.abs(decode(encode(image, "JPEG", quality=98)) - scene()).mean() < 4


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(file_format):
    grey = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    data = encode(Image.fromarray(grey), file_format)
    expected = np.rint(grey / 65535 * 255)
    assert np.abs(decode(data) - expected[..., None]).max() <= (1 if file_format == "PPM" else 0)


def big_endian_tiff(pixels, sample_format=1):
    """A minimal uncompressed big-endian grey TIFF, written by hand."""
    height, width = pixels.shape
    body = pixels.tobytes()
    bits = pixels.dtype.itemsize * 8
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits << 16),
        (259, 3, 1 << 16),
        (262, 3, 1 << 16),
        (273, 4, 8),
        (277, 3, 1 << 16),
        (278, 4, height),
        (279, 4, len(body)),
        (339, 3, sample_format << 16),
    ]
    directory = struct.pack(">H", len(entries))
    directory += b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"MM\x00*" + struct.pack(">I", 8 + len(body)) + body + directory + bytes(4)


def test_big_endian_sixteen_bit_tiff():
    grey = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(">u2")
    expected = np.rint(grey.astype(float) / 257)
    np.testing.assert_array_equal(decode(big_endian_tiff(grey))[..., 0], expected)


def sixteen_bit_rgb_png(pixels):
    """A 16-bit RGB PNG, written by hand because Pillow cannot."""
    height, width, _ = pixels.shape

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bit_colour():
    pixels = scene().astype(np.uint16) * 257
    np.testing.assert_array_equal(decode(sixteen_bit_rgb_png(pixels)), scene())


def test_pixels_without_a_range_are_refused():
    values = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
    assert reason(encode(Image.fromarray(values), "TIFF")) is RejectReason.UNSUPPORTED_MODE
    wide = np.linspace(0, 2**31 - 1, 48 * 64).reshape(48, 64).astype(np.int32)
    assert reason(encode(Image.fromarray(wide), "TIFF")) is RejectReason.UNSUPPORTED_MODE
    with pytest.raises(RejectError, match="mode La") as caught:
        upright_rgb(Image.new("La", (64, 48)))
    assert caught.value.reason is RejectReason.UNSUPPORTED_MODE


# --- orientation ---

# TIFF 6.0, tag 274: which side of the scene the stored row 0 and column 0 are.
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def as_stored(upright, orientation):
    """The array a camera stores for an upright scene, pixel by pixel from the definition."""
    height, width, _ = upright.shape
    row_side, column_side = ORIENTATIONS[orientation]
    transposed = row_side in ("left", "right")
    stored = np.zeros((width, height, 3) if transposed else (height, width, 3), np.uint8)
    for i in range(stored.shape[0]):
        for j in range(stored.shape[1]):
            place = {}
            for side, distance in ((row_side, i), (column_side, j)):
                if side in ("top", "bottom"):
                    place["y"] = distance if side == "top" else height - 1 - distance
                else:
                    place["x"] = distance if side == "left" else width - 1 - distance
            stored[i, j] = upright[place["y"], place["x"]]
    return stored


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_exif_orientation(orientation, file_format):
    upright = scene()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif}
    if file_format == "WEBP":
        options["lossless"] = True
    data = encode(Image.fromarray(as_stored(upright, orientation)), file_format, **options)
    difference = np.abs(decode(data) - upright)
    assert difference.mean() < (4 if file_format == "JPEG" else 1e-9)


def test_orientation_is_not_applied_twice():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(as_stored(scene(), 6)), "PNG", exif=exif)
    once = decode_image(data)
    assert upright_rgb(once) is once
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(upright_rgb(opened)), scene())


@pytest.mark.parametrize("junk", [b"Exif\0\0junk", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0"])
def test_damaged_exif_does_not_cost_the_picture(junk):
    data = encode(Image.fromarray(scene()), "JPEG", quality=95)
    segment = b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk
    assert np.abs(decode(data[:2] + segment + data[2:]) - scene()).mean() < 4


# --- several pictures in one file ---


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_animations_and_pages_are_refused(file_format):
    frames = [Image.fromarray(np.roll(scene(), 8 * i, axis=1)) for i in range(3)]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert reason(data) is RejectReason.ANIMATED


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_one_frame_is_a_picture(file_format):
    assert decode(encode(Image.fromarray(scene()), file_format, save_all=True)).shape == (48, 64, 3)


def test_first_picture_of_a_stereo_file():
    first = Image.fromarray(scene())
    data = encode(first, "MPO", save_all=True, append_images=[Image.new("RGB", first.size)])
    assert np.abs(decode(data) - scene()).mean() < 6


# --- what is no picture ---


def test_empty():
    assert reason(b"") is RejectReason.EMPTY


@pytest.mark.parametrize(
    "data",
    [
        b"just some text\n" * 40,
        b"\x00" * 4096,
        b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n",
        b"%PDF-1.7\n",
        b"PK\x03\x04" + bytes(200),
    ],
    ids=["text", "zeros", "svg", "eps", "pdf", "zip"],
)
def test_other_files(data):
    assert reason(data) is RejectReason.NOT_AN_IMAGE


def test_formats_without_a_signature_are_not_tried():
    """A TGA passes for one by chance; Pillow would read it."""
    data = encode(Image.fromarray(scene()), "TGA")
    Image.open(io.BytesIO(data)).load()
    assert reason(data) is RejectReason.NOT_AN_IMAGE


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    )
    idat = b"IDAT" + zlib.compress(bytes(1000))
    return start + struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))


@pytest.mark.parametrize("size", [(11_000, 11_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused_by_their_header(size):
    assert size[0] * size[1] > MAX_PIXELS
    assert reason(png_header(*size)) is RejectReason.TOO_LARGE


def test_pixel_limit_is_an_argument():
    data = encode(Image.fromarray(scene()), "PNG")
    assert decode_image(data, max_pixels=48 * 64).size == (64, 48)
    assert reason(data, max_pixels=48 * 64 - 1) is RejectReason.TOO_LARGE


def test_too_small():
    assert reason(encode(Image.new("RGB", (31, 500)), "PNG")) is RejectReason.TOO_SMALL
    assert decode_image(encode(Image.new("RGB", (32, 32)), "PNG")).size == (32, 32)


# --- damage ---


def noisy(height=70, width=90):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


FILES = {
    "jpeg": encode(noisy(), "JPEG"),
    "progressive": encode(noisy(), "JPEG", progressive=True),
    "png": encode(noisy(), "PNG"),
    "gif": encode(noisy().convert("P"), "GIF"),
    "webp": encode(noisy(), "WEBP"),
    "avif": encode(noisy(), "AVIF"),
    "jp2": encode(noisy(), "JPEG2000"),
    "tiff": encode(noisy(), "TIFF"),
    "tiff-deflate": encode(noisy(), "TIFF", compression="tiff_deflate"),
    "bmp": encode(noisy(), "BMP"),
    "ppm": encode(noisy(), "PPM"),
    "qoi": encode(noisy(), "QOI"),
    "animated": encode(noisy(), "WEBP", save_all=True, append_images=[noisy(70, 90)]),
}


def decodes_or_rejects(data):
    """True for an RGB image, False for a reason; anything else fails the test."""
    try:
        image = decode_image(data)
    except RejectError as caught:
        message = str(caught)
    else:
        assert image.mode == "RGB"
        assert min(image.size) >= 32
        return True
    assert message
    assert "\n" not in message
    return False


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "avif", "jp2", "tiff-deflate", "bmp"])
def test_half_a_file_is_truncated(name):
    data = FILES[name]
    assert decodes_or_rejects(data)
    assert reason(data[: len(data) // 2]) is RejectReason.TRUNCATED


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1))
def test_truncated_anywhere(name, share):
    data = FILES[name]
    decodes_or_rejects(data[: int(share * len(data))])


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.booleans(),
)
def test_damaged_anywhere(name, changes, in_header):
    data = bytearray(FILES[name])
    reach = min(len(data), 200) if in_header else len(data)
    for share, value in changes:
        data[int(share * (reach - 1))] = value
    decodes_or_rejects(bytes(data))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 16), st.binary(max_size=300))
def test_junk_behind_a_signature(name, kept, junk):
    decodes_or_rejects(FILES[name][:kept] + junk)


# --- decoding at a reduced scale ---


def enlarged(path, times, noise=4.0):
    """A photograph of several megapixels: nothing as large ships with the project."""
    photo = Image.open(path).convert("RGB")
    size = (round(photo.width * times), round(photo.height * times))
    pixels = np.asarray(photo.resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def resized_in_full(data, size):
    return np.asarray(decode_image(data).resize(size, Image.Resampling.BILINEAR)).astype(int)


PHOTOS = ["smile.jpg", "garden.jpg", "newspaper, grey.jpg", "street-lights.jpg"]


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("times", "side"), [(1, 64), (1.3, 64), (2.7, 256), (4.4, 256)])
def test_reduced_decoding_changes_less_than_one_grey_level(photos, name, times, side):
    photo = enlarged(photos / name, times)
    for options in ({"quality": 75}, {"quality": 95, "subsampling": 0}, {"progressive": True}):
        data = encode(photo, "JPEG", **options)
        result, size = decode_resized(data, (side, side))
        assert size == photo.size
        difference = np.abs(np.asarray(result).astype(int) - resized_in_full(data, (side, side)))
        assert difference.mean() < 1.0
        # It was reduced, or there would be no difference at all.
        assert difference.mean() > 0


@pytest.mark.parametrize(
    ("width", "reduction"), [(511, 1), (512, 2), (1023, 2), (1024, 4), (2047, 4), (2048, 8)]
)
def test_the_reduced_picture_has_twice_the_pixels_that_are_wanted(width, reduction, monkeypatch):
    asked = []
    draft = JpegImagePlugin.JpegImageFile.draft

    def noted(image, mode, size):
        before = image.size
        answer = draft(image, mode, size)
        asked.append(before[0] / image.width)
        return answer

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", noted)
    data = encode(Image.new("RGB", (width, 2100)), "JPEG")
    result, size = decode_resized(data, (128, 128))
    assert (result.size, size) == ((128, 128), (width, 2100))
    assert [round(scale) for scale in asked] == ([] if reduction == 1 else [reduction])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_reduced_decoding_turns_the_picture_and_its_size(orientation):
    """With sides that the reductions do not divide, so that there are pixels too many to turn."""
    upright = scene(301, 443)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(as_stored(upright, orientation))
    data = encode(stored, "JPEG", quality=95, exif=exif)
    result, size = decode_resized(data, (40, 32))
    assert size == (443, 301)
    assert result.mode == "RGB"
    assert not result.info
    difference = np.abs(np.asarray(result).astype(int) - resized_in_full(data, (40, 32)))
    assert 0 < difference.mean() < 1.0


def test_reduced_decoding_of_every_kind_of_jpeg():
    photo = Image.fromarray(scene(600, 800))
    kinds = {
        "grey": encode(photo.convert("L"), "JPEG"),
        "cmyk": encode(photo.convert("CMYK"), "JPEG", quality=95),
        "mpo": encode(photo, "MPO", save_all=True, append_images=[Image.new("RGB", photo.size)]),
    }
    for data in kinds.values():
        result, size = decode_resized(data, (100, 70))
        assert (result.mode, size) == ("RGB", (800, 600))
        difference = np.abs(np.asarray(result).astype(int) - resized_in_full(data, (100, 70)))
        assert 0 < difference.mean() < 1.0


def test_other_formats_and_small_pictures_are_resized_as_pillow_does():
    for data in (FILES["png"], FILES["jpeg"], encode(Image.fromarray(scene(600, 800)), "PNG")):
        result, size = decode_resized(data, (64, 48))
        assert size == decode_image(data).size
        np.testing.assert_array_equal(np.asarray(result), resized_in_full(data, (64, 48)))
    same, _ = decode_resized(FILES["png"], (90, 70))
    np.testing.assert_array_equal(np.asarray(same), decode(FILES["png"]))


def test_reduced_decoding_rejects_what_decoding_rejects():
    data = encode(Image.fromarray(scene(600, 800)), "JPEG")
    for bad, options in ((data[: len(data) // 2], {}), (data, {"max_pixels": 1000}), (b"", {})):
        with pytest.raises(RejectError) as caught:
            decode_resized(bad, (32, 32), **options)
        assert caught.value.reason is reason(bad, **options)
