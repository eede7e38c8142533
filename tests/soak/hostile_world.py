"""A folder of fuzzed files, hostile names and hostile list entries, with photographs among them.

Everything follows from a seed.
"""

from __future__ import annotations

import io
import os
import random
import string
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.hostile_shards import hostile_shards, repeated_image

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "photos"
PHOTOGRAPHS = ("hallway.png", "smile.jpg", "garden.jpg", "call.webp")

_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_COMPRESSIONS = ("none", "zstd", "snappy", "gzip")
_TAR_FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
_SHARES = (("image", 0.6), ("tar", 0.14), ("parquet", 0.2), ("list", 0.06))


@dataclass
class World:
    """What was made.

    Attributes:
        folder: to be given as ``INPUT``.
        photographs: sound ones, with a face each, by path.
        files: all others that are one input each, by path.
        shards: files that hold any number of inputs.
        entries: of the list of hostile entries.
    """

    folder: Path
    photographs: list[bytes] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    shards: list[bytes] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)


def make_world(folder: Path, files: int, names: int, entries: int, seed: int) -> World:
    """Fuzzed files of every format, hostile names, a list of hostile entries, and photographs."""
    rng = random.Random(seed)
    world = World(folder)
    photographs = [_small(SAMPLES / name) for name in PHOTOGRAPHS]
    _fuzzed(world, rng, files, photographs)
    _names(world, rng, names, photographs)
    _entries(world, rng, entries)
    (folder / "photographs").mkdir()
    for number in range(max(len(photographs), files // 100)):
        name = os.fsencode(folder / "photographs" / f"{number:03d}.jpg")
        _write(name, photographs[number % len(photographs)])
        world.photographs.append(name)
    for name in hostile_shards(folder / "fuzzed"):
        world.shards.append(os.fsencode(folder / "fuzzed" / name))
    _write(os.fsencode(folder / "fuzzed" / "large.parquet"), repeated_image(64 << 20, 20))
    world.shards.append(os.fsencode(folder / "fuzzed" / "large.parquet"))
    return world


def mutated(data: bytes, rng: random.Random, head: int, tail: int) -> bytes:
    """Data with some of it changed, cut, doubled or left out, mostly where headers are.

    Args:
        data: a sound file.
        rng: decides.
        head: bytes at the beginning that are changed most.
        tail: the same at the end.
    """
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8, 40))):
        where = rng.random()
        low, high = 0, len(changed)
        if head and where < 0.45:
            high = min(head, high)
        elif tail and where < 0.9:
            low = max(0, high - tail)
        if low >= high:
            break
        at, kind = rng.randrange(low, high), rng.random()
        if kind < 0.4:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind < 0.65:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind < 0.75:
            del changed[at : at + rng.randrange(1, 200)]
        elif kind < 0.85:
            changed[at:at] = rng.randbytes(rng.randrange(1, 40))
        elif kind < 0.92:
            changed[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\x7f" + b"\xff" * 3))
        elif kind < 0.97:
            changed[at:at] = changed[at : at + rng.randrange(1, 2000)]
        else:
            del changed[at:]
    return bytes(changed)


def _fuzzed(world: World, rng: random.Random, count: int, photographs: list[bytes]) -> None:
    folder = world.folder / "fuzzed"
    folder.mkdir()
    makers: dict[str, Callable[[], tuple[str, bytes]]] = {
        "image": lambda: _image(rng, photographs),
        "tar": lambda: (".tar", mutated(_tar(rng, photographs), rng, 1536, 0)),
        "parquet": lambda: (".parquet", _parquet(rng)),
        "list": lambda: (".parquet", _uri_list(rng)),
    }
    for number in range(count):
        kind = rng.choices([name for name, _ in _SHARES], [share for _, share in _SHARES])[0]
        ending, data = makers[kind]()
        name = os.fsencode(folder / f"{number:05d}{ending}")
        _write(name, data)
        (world.files if kind == "image" else world.shards).append(name)


def _image(rng: random.Random, photographs: list[bytes]) -> tuple[str, bytes]:
    if rng.random() < 0.05:
        return ".jpg", rng.randbytes(rng.choice((0, 1, 10, 5000)))
    image = Image.open(io.BytesIO(rng.choice(photographs))).convert("RGB")
    image.thumbnail((rng.choice((48, 96, 160)),) * 2)
    kind = rng.choice(_IMAGE_FORMATS)
    target = io.BytesIO()
    image.save(target, kind)
    return f".{kind.lower()}", mutated(target.getvalue(), rng, 400, 60)


def _tar(rng: random.Random, photographs: list[bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=rng.choice(_TAR_FORMATS)) as archive:
        for number in range(rng.randrange(1, 5)):
            info = tarfile.TarInfo(f"{'d' * rng.choice((1, 120))}/{number}.jpg")
            data = _image(rng, photographs)[1]
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def _parquet(rng: random.Random) -> bytes:
    images = [rng.randbytes(rng.randrange(20, 300)) for _ in range(rng.randrange(1, 8))]
    tables = (
        lambda: pa.table({"image": [{"bytes": each, "path": "x"} for each in images]}),
        lambda: pa.table({"image": pa.array(images * 3).dictionary_encode(), "n": images * 3}),
        lambda: pa.table({"image": [images[0]] * 20 + [None] * 3}),
        lambda: pa.table({"image": images, "label": list(range(len(images)))}),
    )
    return _mutated_parquet(rng, tables[rng.randrange(4)]())


def _uri_list(rng: random.Random) -> bytes:
    return _mutated_parquet(rng, pa.table({"uri": [f"{rng.random()}.jpg" for _ in range(5)]}))


def _mutated_parquet(rng: random.Random, table: pa.Table) -> bytes:
    target = io.BytesIO()
    groups = rng.choice((2, 100))
    pq.write_table(table, target, compression=rng.choice(_COMPRESSIONS), row_group_size=groups)
    data = target.getvalue()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    return mutated(data, rng, len(data) - footer, footer)


def _names(world: World, rng: random.Random, count: int, photographs: list[bytes]) -> None:
    folder = os.fsencode(world.folder / "names")
    os.mkdir(folder)  # noqa: PTH102 (names need not be text)
    signs = [bytes([each]) for each in range(1, 256) if each != ord("/")]
    words = (
        b"\xe2\x80\xae",
        b"'; --",
        b"$(id)",
        b"%2e%2e",
        b"::",
        b"row0",
        b"..",
        b"\n",
        b"\x1b[2J",
    )
    for number in range(count):
        parts = [rng.choice(signs) if rng.random() < 0.7 else rng.choice(words) for _ in range(9)]
        ending = rng.choice((b".jpg", b"", b".JPG ", b".png\n", b".webp::x", b".tar.gz", b".part"))
        name = folder + b"/%d" % number + b"".join(parts) + ending
        if number % 20 == 0:
            name = (name + b"x" * 255)[: len(folder) + 1 + 255]
        if number % 8 == 7:
            # Links in circles, to nothing, to names that are too long, and through files.
            targets = (name.rpartition(b"/")[2], b"/no/such", b"x" * 300, b"../names/0/x")
            os.symlink(rng.choice(targets), name)  # noqa: PTH211
            world.files.append(name)
        elif number % 2 or ending == b".tar.gz":
            _write(name, rng.randbytes(50))
            world.files.append(name)
        else:
            _write(name, photographs[number % len(photographs)])
            world.photographs.append(name)
    if count >= 100:
        _deep_folder(folder)


def _deep_folder(folder: bytes) -> None:
    """Folders in one another, deeper than any path is long."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(2100):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def _entries(world: World, rng: random.Random, count: int) -> None:
    (world.folder / "lists").mkdir()
    fixed = [
        *("http://[::1/x", "reference://", "dbfs://a/b", "s3:///k", "s3://Bad Bucket!/k", "s3://"),
        *(
            "http://127.0.0.1:9/a.jpg",
            "http://169.254.169.254/latest/meta-data",
            "http://localhost/",
        ),
        *(
            "https://[::ffff:10.0.0.1]/a",
            "ftp://127.0.0.1/a.jpg",
            "sftp://localhost/a",
            "smb://h/a",
        ),
        *("gs://bucket/k.jpg", "s3://x--use1-az9--x-s3/k", "s3://plain-bucket/" + "k" * 1100),
        *(
            "http://host.invalid/a.jpg",
            "https://host.invalid:99999/",
            "http://user:pw@h/x",
            "zip://a",
        ),
        *(
            "file:///dev/zero",
            "file:///proc/self/mem",
            "/" + "long/" * 1300,
            "x" * 40_000,
            "..",
            "/",
        ),
        *("http://host.invalid/a.tar", "s3://Bad Bucket!/a.parquet", "/no/such.tar", "../lists"),
    ]
    made = [*fixed, *(_entry(rng) for _ in range(count))][:count]
    world.entries = [
        f"{entry[:39_000]}#{number}" if number >= len(fixed) else entry
        for number, entry in enumerate(made)
    ]
    target = world.folder / "lists" / "entries.parquet"
    pq.write_table(pa.table({"uri": pa.array(world.entries, pa.string())}), target)


def _entry(rng: random.Random) -> str:
    schemes = (
        "http",
        "https",
        "s3",
        "s3a",
        "gs",
        "az",
        "ftp",
        "sftp",
        "file",
        "hdfs",
        "data",
        "x y",
    )
    hosts = (
        "",
        "host.invalid",
        "127.0.0.1:1",
        "[::1]",
        "Bad Bucket!",
        "plain-bucket",
        "a b",
        "%",
        "é",
    )
    path = "".join(rng.choice(string.printable[:94]) for _ in range(rng.randrange(20)))
    entry = f"{rng.choice(schemes)}://{rng.choice(hosts)}/{path}{rng.choice(('.jpg', '.tar', ''))}"
    return entry.replace("\0", "")


def _small(path: Path) -> bytes:
    image = Image.open(path).convert("RGB")
    image.thumbnail((320, 320))
    target = io.BytesIO()
    image.save(target, "JPEG", quality=90)
    return target.getvalue()


def _write(name: bytes, data: bytes) -> None:
    with open(name, "wb") as file:  # noqa: PTH123 (names need not be text)
        file.write(data)
