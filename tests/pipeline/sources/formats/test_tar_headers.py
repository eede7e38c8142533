"""Members found by headers alone, against the standard library where that is sound."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restyle.core.errors import RejectError, RejectReason
from restyle.pipeline.sources.formats.tar_headers import MemberKind, TarMember, read_members
from restyle.pipeline.sources.ranged_file import RangedFile, Stores, open_ranged
from restyle.pipeline.sources.source_image import SourceImage
from tests.pipeline.sources.tars import END, header, odd, packed

NAMES = [
    "plain.jpg",
    "folder/" * 20 + "long enough for a prefix.jpg",
    "x" * 180 + ".jpg",
    "deep/" * 80 + "y" * 120 + ".jpg",
    "schön/日本.png",
    "caf\udce9.jpg",
    "new\nline.jpg",
]


class Bytes(RangedFile):
    def __init__(self, data: bytes, read_ahead: int = 700) -> None:
        self.size, self.version, self.read_ahead = len(data), "1", read_ahead
        self.data = data
        self.read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.read += length
        return self.data[offset : offset + length]


def members_of(data: bytes) -> tuple[list[TarMember], RejectError | None]:
    found: list[TarMember] = []
    try:
        for member in read_members(Bytes(data)):
            found.append(member)
    except RejectError as error:
        return found, error
    return found, None


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_same_as_the_standard_library_finds(form: int) -> None:
    names = [name for name in NAMES if form != tarfile.USTAR_FORMAT or len(name) < 170]
    files = [(name, bytes([65 + at]) * (511 + at)) for at, name in enumerate(names)]
    data = packed([*files, ("empty.jpg", b""), odd("folder", tarfile.DIRTYPE)], form)
    found, error = members_of(data)
    assert error is None
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = [(i.name, i.offset_data, i.size, i.isdir()) for i in archive]
    assert [
        (m.name.rstrip("/"), m.offset, m.size, m.kind is MemberKind.FOLDER) for m in found
    ] == expected
    for (_, content), member in zip(files, found, strict=False):
        assert data[member.offset : member.offset + member.size] == content


def test_kinds() -> None:
    kinds = {
        tarfile.SYMTYPE: MemberKind.LINK,
        tarfile.LNKTYPE: MemberKind.LINK,
        tarfile.CHRTYPE: MemberKind.DEVICE,
        tarfile.BLKTYPE: MemberKind.DEVICE,
        tarfile.FIFOTYPE: MemberKind.DEVICE,
        tarfile.DIRTYPE: MemberKind.FOLDER,
        tarfile.CONTTYPE: MemberKind.FILE,
        b"V": MemberKind.OTHER,
    }
    members = [odd(f"m{at}", kind, "/etc/passwd") for at, kind in enumerate(kinds)]
    found, error = members_of(packed([*members, ("last.jpg", b"x")]))
    assert error is None
    assert [member.kind for member in found] == [*kinds.values(), MemberKind.FILE]


def test_every_cut_gives_what_is_whole_and_one_fault() -> None:
    files = [("a.jpg", b"a" * 600), (NAMES[3], b"b" * 512), ("c.jpg", b""), ("d.jpg", b"d" * 90)]
    data = packed(files)
    whole, error = members_of(data)
    assert error is None
    ends = [member.offset + member.size for member in whole]
    content = whole[-1].offset + 512
    for cut in range(content + END + 1):
        found, error = members_of(data[:cut])
        assert found == [m for m, end in zip(whole, ends, strict=True) if end <= cut], cut
        # From the first whole block of zeros on, nothing can have been lost.
        is_complete = cut >= content + 512
        assert (error is None) == is_complete, cut
        assert error is None or error.reason is RejectReason.DAMAGED_ARCHIVE


def test_a_cut_says_where_and_in_what() -> None:
    data = packed([("a.jpg", b"a" * 600), ("b.jpg", b"b" * 600)])
    _, error = members_of(data[:2100])
    assert "cut off at byte 2,100" in str(error)
    assert "'b.jpg' of 600 bytes" in str(error)
    assert "\n" not in str(error)
    _, error = members_of(data[:1536])
    assert "stops at byte 1,536 without the mark of an end" in str(error)
    assert "it is empty" in str(members_of(b"")[1])


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (b"77777777777\0", "cut off"),
        (b"\x80" + b"\x7f" * 11, "cut off"),
        (b"\xff" * 12, "impossible size"),
        (b"-0000000001\0", "impossible size"),
        (b"12x4567890\0", "impossible size"),
    ],
)
def test_sizes_that_lie(size: bytes, said: str) -> None:
    good = packed([("a.jpg", b"a")])[:1024]
    found, error = members_of(good + header(b"b.jpg", size) + bytes(2048))
    assert [member.name for member in found] == ["a.jpg"]
    assert said in str(error)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_extended_header_of_gigantic_size_is_not_read(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(packed([("a.jpg", b"a")])[:1024] + header(b"x", b"70000000000\0", kind))
    os.truncate(path, 8 << 30)
    tracemalloc.start()
    with open_ranged(SourceImage("", "", b"file://" + os.fsencode(path), -1, ""), Stores()) as file:
        members = read_members(file)
        assert next(members).name == "a.jpg"
        with pytest.raises(RejectError, match=r"states 7,516,192,768 bytes"):
            next(members)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "records", [b"999 path=x\n", b"0 path=x\n", b"x path=x\n", b"11 path=x\n", b"9 pathxy\n", b"9"]
)
def test_extended_headers_that_make_no_sense(records: bytes) -> None:
    size = b"%011o\0" % len(records)
    data = header(b"x", size, b"x") + records.ljust(512, b"\0") + header(b"a.jpg", b"0")
    found, error = members_of(data + bytes(1024))
    assert not found
    assert "makes no sense" in str(error)


def test_the_size_of_an_extended_header_counts() -> None:
    record = b"12 size=600\n"
    data = header(b"x", b"%011o\0" % len(record), b"x") + record.ljust(512, b"\0")
    data += header(b"a.jpg", b"0") + b"a" * 600 + bytes(424) + header(b"b.jpg", b"0")
    found, error = members_of(data + bytes(1024))
    assert error is None
    assert [(m.name, m.size, m.offset) for m in found] == [("a.jpg", 600, 1536), ("b.jpg", 0, 3072)]


def test_members_with_holes(tmp_path: Path) -> None:
    record = b"22 GNU.sparse.major=1\n"
    data = header(b"x", b"%011o\0" % len(record), b"x") + record.ljust(512, b"\0")
    data += header(b"a.jpg", b"1") + b"a".ljust(512, b"\0")
    old = bytearray(header(b"b.jpg", b"2", b"S"))
    old[482] = 1
    old[148:156] = b"%06o\0 " % (sum(old) - sum(old[148:156]) + 8 * 32)
    more, last = bytearray(512), bytes(512)
    more[504] = 1
    data += bytes(old) + more + last + b"bb".ljust(512, b"\0") + header(b"c.jpg", b"0")
    found, error = members_of(data + bytes(1024))
    assert error is None
    assert [(m.name, m.kind.value) for m in found] == [
        ("a.jpg", "sparse"),
        ("b.jpg", "sparse"),
        ("c.jpg", "file"),
    ]


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (b"garbage" * 200, "not the header of a member"),
        (bytes(1024) + packed([("b.jpg", b"b")]), "archives joined to one"),
        (bytes(512) + packed([("b.jpg", b"b")]), "archives joined to one"),
        (bytes(40_000) + b"x", "archives joined to one"),
    ],
)
def test_what_follows_the_end_is_not_overlooked(tail: bytes, said: str) -> None:
    found, error = members_of(packed([("a.jpg", b"a")])[:1024] + tail)
    assert [member.name for member in found] == ["a.jpg"]
    assert said in str(error)


@pytest.mark.parametrize("padding", [0, 511, 512, 1024, 10_240, 200_001])
def test_any_padding_is_an_end(padding: int) -> None:
    found, error = members_of(packed([("a.jpg", b"a")])[:1024] + bytes(512 + padding))
    assert len(found) == 1
    assert error is None


@pytest.mark.parametrize("form", ["gz", "bz2", "xz"])
def test_compressed_archives_are_told(form: str) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=f"w:{form}") as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("a.jpg"))
    found, error = members_of(target.getvalue())
    assert not found
    assert error is not None
    assert error.reason is RejectReason.UNSUPPORTED_ARCHIVE


def test_signed_checksums_of_old_programs() -> None:
    block = bytearray(header(b"caf\xe9.jpg", b"0"))
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256 - 256)
    signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 8 * 32
    block[148:156] = b"%06o\0 " % signed
    found, error = members_of(bytes(block) + bytes(1024))
    assert error is None
    assert found[0].name == "caf\udce9.jpg"


SOUND = packed([("a.jpg", b"a" * 600), (NAMES[3], b"b" * 512), odd("l", b"2", "x"), ("c.jpg", b"")])


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=8))
def test_whatever_the_bytes_members_lie_within_the_file(flips: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for at, value in flips:
        data[at] = value
    found, _ = members_of(bytes(data))
    for member in found:
        assert 0 <= member.offset <= member.offset + member.size <= len(data)


def test_only_headers_are_asked_for() -> None:
    data = packed([(f"{at}.jpg", bytes(100_000)) for at in range(20)])
    file = Bytes(data, read_ahead=1024)
    assert len(list(read_members(file))) == 20
    # Twenty headers and the padding at the end, which has at most 10,240 bytes.
    assert file.read < 20 * 1024 + 32 * 1024
