"""Members of archives as inputs and as rejects."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from restyle.core.errors import RejectError, RejectReason, SpecError
from restyle.pipeline.sources import SourceReader, iter_images
from restyle.pipeline.sources.formats.file_names import image_extensions
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from tests.pipeline.sources.tars import header, odd, packed


def shard(path: Path, data: bytes, noted: list[str] | None = None) -> list[SourceImage]:
    path.write_bytes(data)
    notes = [] if noted is None else noted
    (batch,) = iter_images(str(path), "/out", InputOptions(), noted=notes.append)
    return batch


def reasons(images: list[SourceImage]) -> list[str]:
    return [image.fault.partition("|")[0] for image in images]


def test_members_keep_their_names_and_are_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    files = [("img/1.jpg", b"one"), ("./img/2.PNG", b"two"), ("deep/er/ü.webp", b"three")]
    images = shard(path, packed(files))
    assert [image.source for image in images] == [f"{path}::{name}" for name, _ in files]
    for image, (name, content) in zip(images, files, strict=True):
        identity = f"file://{path}::{name}".encode()
        assert image.image_id == hashlib.blake2b(identity, digest_size=16).hexdigest()
        assert image.uri == f"file://{path}".encode()
        assert image.size == len(content)
        assert image.version == str(path.stat().st_mtime_ns)
        assert not image.fault
        assert SourceReader(str(path)).read(image) == content


def test_path_tricks_links_and_devices_are_rejected(tmp_path: Path) -> None:
    names = ["../a.jpg", "/a.jpg", "x/../../a.jpg", "..", "C:\\a.jpg", "..\\a.jpg", "\\a.jpg"]
    members = [
        *((name, b"x") for name in names),
        odd("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        odd("hard.jpg", tarfile.LNKTYPE, "../a.jpg"),
        odd("device.jpg", tarfile.CHRTYPE),
        odd("pipe", tarfile.FIFOTYPE),
        odd("../folder", tarfile.DIRTYPE),
        odd("folder", tarfile.DIRTYPE),
        ("..notes.txt/a..b.jpg", b"hidden"),
        ("a..b.jpg", b"fine"),
    ]
    images = shard(tmp_path / "a.tar", packed(members))
    assert reasons(images) == ["unsafe_name"] * 12 + [""]
    assert images[-1].source.endswith("::a..b.jpg")
    assert len({image.image_id for image in images}) == 13
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_names_without_a_name(tmp_path: Path) -> None:
    record = b"18 path=a\0../b.jpg\n"
    record = b"%d%s" % (len(record), record[2:])
    zero = header(b"x", b"%011o\0" % len(record), b"x") + record.ljust(512, b"\0")
    data = header(b"", b"0") + zero + header(b"b.jpg", b"0") + bytes(1024)
    images = shard(tmp_path / "a.tar", data)
    assert reasons(images) == ["unsafe_name", "unsafe_name"]
    assert images[1].source.endswith("::a\\x00../b.jpg")


def test_later_members_of_a_name_are_rejected(tmp_path: Path) -> None:
    members = [("a.jpg", b"1"), ("./a.jpg", b"2"), ("b/../b.jpg", b"x"), ("a.jpg", b"3")]
    images = shard(tmp_path / "a.tar", packed(members))
    assert reasons(images) == ["", "duplicate_name", "unsafe_name", "duplicate_name"]
    assert len({image.image_id for image in images}) == 4
    assert "number 3" in images[3].fault
    assert SourceReader("/").read(images[0]) == b"1"


def test_sidecars_and_hidden_members_are_passed_over_and_told(tmp_path: Path) -> None:
    names = ["1.jpg", "1.json", "1.txt", "2.jpg", "2.json", "._1.jpg", ".x/a.jpg", "README"]
    noted: list[str] = []
    images = shard(tmp_path / "a.tar", packed([(name, b"x") for name in names]), noted)
    assert [image.source.partition("::")[2] for image in images] == ["1.jpg", "2.jpg"]
    assert noted == [
        f"passed over in {tmp_path}/a.tar: 6 members are no images by name "
        "(.json 2, .jpg 2, .txt 1, (none) 1)"
    ]


def test_names_that_are_hard_to_show(tmp_path: Path) -> None:
    names = ["new\nline\x1b[31m.jpg", "caf\udce9.jpg", "x" * 2000 + ".jpg"]
    path = tmp_path / "a.tar"
    images = shard(path, packed([(name, b"x") for name in names], tarfile.GNU_FORMAT))
    shown = [image.source.removeprefix(f"{path}::") for image in images]
    assert shown == ["new\\nline\\x1b[31m.jpg", "caf\\xe9.jpg", "x" * 300 + "..."]
    assert all(image.source.encode().isascii() for image in images)
    identity = f"file://{path}::".encode() + b"caf\xe9.jpg"
    assert images[1].image_id == hashlib.blake2b(identity, digest_size=16).hexdigest()


def test_a_cut_archive_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = packed([("1.jpg", b"1" * 600), ("2.jpg", b"2" * 600)])
    images = shard(path, data[:2100])
    assert reasons(images) == ["", "damaged_archive"]
    assert images[1].image_id == hashlib.blake2b(images[0].uri, digest_size=16).hexdigest()
    assert images[1].source == str(path)
    # Within its archive, so that it is planned with what else is in there.
    assert images[1].place.startswith("tar:")


@pytest.mark.parametrize("data", [b"", b"no archive" * 100, b"\x1f\x8b" + bytes(2000)])
def test_what_is_no_archive_is_one_reject(tmp_path: Path, data: bytes) -> None:
    (image,) = shard(tmp_path / "a.tar", data)
    reason, _, message = image.fault.partition("|")
    assert RejectReason(reason) in (
        RejectReason.DAMAGED_ARCHIVE,
        RejectReason.UNSUPPORTED_ARCHIVE,
    )
    assert message


def test_an_archive_without_members_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(packed([]))
    with pytest.raises(SpecError, match="holds no images"):
        list(iter_images(str(path), "/out", InputOptions()))


def test_members_too_large_to_be_images_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header(b"a.jpg", b"%011o\0" % (3 << 30)))
    os.truncate(path, (3 << 30) + 512)
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(packed([("b.jpg", b"b")]))
    ((big, small),) = iter_images(str(path), "/out", InputOptions())
    assert (big.size, small.size) == (3 << 30, 1)
    with pytest.raises(RejectError) as caught:
        SourceReader(str(path)).read(big)
    assert caught.value.reason is RejectReason.TOO_LARGE
    assert SourceReader(str(path)).read(small) == b"b"


def test_a_changed_archive_is_not_read_at_old_places(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    (image,) = shard(path, packed([("a.jpg", b"old")]))
    path.write_bytes(packed([("b.jpg", b"new")]))
    os.utime(path, ns=(1, 1))
    with pytest.raises(OSError, match="has changed since it was planned"):
        SourceReader(str(path)).read(image)


def test_extensions_are_those_that_pillow_opens() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".avif", ".gif"} <= image_extensions()
    assert not {".json", ".txt", ".cls", ".npy", ".pdf", ".mp4", ""} & image_extensions()
    assert Counter(map(str.lower, image_extensions())) == Counter(image_extensions())
