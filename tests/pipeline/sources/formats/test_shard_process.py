"""Shards that crash, swell or hang in their reader cost themselves; who reads them goes on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restyle.core.errors import FatalError, RejectError, RejectReason, TransientError
from restyle.pipeline.sources import SourceReader
from restyle.pipeline.sources.formats.shard_messages import Limits
from restyle.pipeline.sources.formats.shard_process import ShardProcess
from restyle.pipeline.sources.formats.source_format import Index, Members
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.ranged_file import LocalFile, RangedFile, Stores, open_ranged
from restyle.pipeline.sources.source_image import SourceImage
from tests.hostile_shards import (
    aborting_parquet,
    hostile_shards,
    repeated_image,
    swelling_page,
    written,
)
from tests.pipeline.sources.listing import listed
from tests.pipeline.sources.tars import packed

ROOT = Path(__file__).resolve().parents[4]
MOST = 1 << 30

# In the child alone: what its readers do then depends on the name of the file.
_SITE = """
import sys
if any("shard_child" in word for word in sys.orig_argv):
    import ctypes, os, signal
    from restyle.pipeline.sources.formats import tar_shard
    members = tar_shard.tar_images

    def hostile(archive, file, skipped):
        for number, image in enumerate(members(archive, file, skipped)):
            yield image
            if number == 1500 and "crash" in archive.source:
                ctypes.string_at(0)
            if number == 1500 and "swell" in archive.source:
                bytearray(1 << 40)
            while number == 1500 and "hang" in archive.source:
                pass
            if number == 1500 and "once" in archive.source:
                flag = archive.source + ".done"
                if not os.path.exists(flag):
                    open(flag, "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)

    tar_shard.tar_images = hostile
"""


@pytest.fixture
def shards() -> Iterator[ShardProcess]:
    made = ShardProcess(Limits(seconds=2, memory=384 * 2**20))
    yield made
    made.end()


def opened(path: Path, data: bytes | None = None) -> RangedFile:
    if data is not None:
        path.write_bytes(data)
    return LocalFile(os.open(path, os.O_RDONLY))


def test_hostile_shards_in_a_folder_cost_themselves(tmp_path: Path) -> None:
    said = hostile_shards(tmp_path)
    (tmp_path / "good.jpg").write_bytes(b"photograph")
    (tmp_path / "good.parquet").write_bytes(written(pa.table({"image": [b"one", b"two"]})))
    (tmp_path / "good.tar").write_bytes(packed([("a.jpg", b"member")]))
    reader = SourceReader(str(tmp_path))
    read: list[bytes] = []
    for image in listed(tmp_path):
        name = Path(image.source.partition("::")[0]).name
        if name in said:
            message = image.fault
            if not message:
                with pytest.raises(RejectError) as caught:
                    reader.read(image)
                message = str(caught.value)
            assert said.pop(name, "") in message or name == "aborts.parquet"
            assert len(message) < 800
            if name == "aborts.parquet":
                # Its other row.
                said[name] = "SIGABRT"
        else:
            read.append(reader.read(image))
    assert read == [b"photograph", b"one", b"two", b"member"]
    # A table without a column for an image is no shard.
    assert set(said) == {"aborts.parquet", "many.parquet"}


def test_a_row_that_aborts_its_reader_ends_its_row_group_alone(
    tmp_path: Path, shards: ShardProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    begin = ShardProcess._started

    def counted(self: ShardProcess) -> object:
        if self._child is None:
            started.append(1)
        return begin(self)

    monkeypatch.setattr(ShardProcess, "_started", counted)
    bad, good = (b"bad", "1"), (b"good", "1")
    shards.open(bad, opened(tmp_path / "a.parquet", aborting_parquet()), "parquet")
    table = pa.table({"image": [b"%d" % at for at in range(9)]})
    shards.open(good, opened(tmp_path / "b.parquet", written(table)), "parquet")
    assert shards.read(good, "0:0:image", MOST) == b"0"
    for row in (0, 1, 0, 1):
        with pytest.raises(RejectError, match="SIGABRT") as caught:
            shards.read(bad, f"0:{row}:image", MOST)
        assert caught.value.reason is RejectReason.CRASHED
    assert [shards.read(good, f"0:{row}:image", MOST) for row in (3, 8, 5)] == [b"3", b"8", b"5"]
    # One for the first row, one more for each of two deaths.
    assert len(started) == 3


@pytest.mark.parametrize(
    ("name", "reason", "rows"),
    [
        ("crash", RejectReason.CRASHED, 0),
        ("swell", RejectReason.TOO_LARGE, 0),
        ("hang", RejectReason.TIMED_OUT, 0),
        ("once", None, 3000),
    ],
)
def test_readers_that_end_in_the_middle(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shards: ShardProcess,
    name: str,
    reason: RejectReason | None,
    rows: int,
) -> None:
    """One that is killed from outside loses nothing: each member comes once."""
    (tmp_path / "sitecustomize.py").write_text(_SITE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = tmp_path / f"{name}.tar"
    file = opened(path, packed([(f"{at}.jpg", b"x") for at in range(3000)]))
    archive = SourceImage("0" * 32, str(path), b"file://x.tar", file.size, "1")
    found: list[str] = []
    pieces = shards.index(file, Index("tar", archive, InputOptions()))
    if reason is None:
        for piece in pieces:
            found += [row[1] for row in piece.rows] if isinstance(piece, Members) else []
        assert found == [f"{path}::{at}.jpg" for at in range(rows)]
    else:
        with pytest.raises(RejectError) as caught:
            list(pieces)
        assert caught.value.reason is reason
    # And the next is read as if nothing had been.
    good = opened(tmp_path / "good.tar", packed([("a.jpg", b"x")]))
    pieces = shards.index(good, Index("tar", archive, InputOptions()))
    assert [len(piece.rows) for piece in pieces if isinstance(piece, Members)] == [1]
    file.close()
    good.close()


def test_a_large_value_in_every_row_is_held_once(tmp_path: Path) -> None:
    """200 rows of 20 MB in a few kilobytes, read where 384 MB are allowed."""
    data = repeated_image(20 << 20, 200)
    assert len(data) < 10_000
    shards = ShardProcess(Limits(seconds=60, memory=384 * 2**20))
    shards.open((b"a", ""), opened(tmp_path / "a.parquet", data), "parquet")
    for row in (0, 1, 2, 70, 199):
        assert shards.read((b"a", ""), f"0:{row}:image", MOST) == bytes(20 << 20)
    shards.end()


def test_a_page_that_swells_beyond_the_limit_is_too_large(tmp_path: Path) -> None:
    data = swelling_page(200 << 20)
    assert len(data) < 100_000
    shards = ShardProcess(Limits(seconds=60, memory=128 * 2**20))
    shards.open((b"a", ""), opened(tmp_path / "a.parquet", data), "parquet")
    shards.open((b"b", ""), opened(tmp_path / "b.parquet", swelling_page(20 << 20)), "parquet")
    for row in (0, 1):
        with pytest.raises(RejectError) as caught:
            shards.read((b"a", ""), f"0:{row}:image", MOST)
        assert caught.value.reason in (RejectReason.TOO_LARGE, RejectReason.CRASHED)
    # The limit is what rejected it, and a value may be too large by itself.
    assert shards.read((b"b", ""), "0:1:image", MOST) == b"small"
    with pytest.raises(RejectError, match="more than 1,000 bytes"):
        shards.read((b"b", ""), "0:0:image", 1000)
    assert shards.read((b"b", ""), "0:1:image", 1000) == b"small"
    shards.end()


def test_planning_of_shards_that_swell_takes_little_memory(tmp_path: Path) -> None:
    hostile_shards(tmp_path)
    (tmp_path / "dictionary.parquet").write_bytes(repeated_image(50 << 20, 60_000))
    (tmp_path / "good.jpg").write_bytes(b"x")
    code = (
        "import resource, sys; from restyle.pipeline.sources import *\n"
        "from restyle.pipeline.sources.options import InputOptions\n"
        "count = sum(map(len, iter_images(sys.argv[1], '/o', InputOptions())))\n"
        "own = open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]\n"
        "print(count, own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    count, parent, child = map(int, ended.stdout.split())
    assert count == 60_000 + 2 + 4 + 1
    assert max(parent, child) < 600_000, "KiB"
    assert not ended.stderr


def test_files_elsewhere_are_read_by_the_parent(tmp_path: Path) -> None:
    """A store that only this process knows; its failures are its own, not the shard's."""
    files = fsspec.filesystem("memory")
    images = [os.urandom(50_000) for _ in range(100)]
    files.pipe_file("/shards/a.parquet", written(pa.table({"image": images}), row_group_size=30))
    found = listed("memory://shards/a.parquet")
    reader = SourceReader("memory://shards/a.parquet")
    assert [reader.read(image) for image in found] == images
    reader.close()


def test_a_store_that_fails_is_no_fault_of_the_shard(tmp_path: Path, shards: ShardProcess) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [bytes([at]) * 9000 for at in range(50)]}), path)

    class Failing(RangedFile):
        def __init__(self) -> None:
            self._file = opened(path)
            self.size, self.version, self.read_ahead = self._file.size, "1", 1 << 14
            self.left = 2

        def read_at(self, offset: int, length: int) -> bytes:
            self.left -= 1
            if self.left == 0:
                raise TransientError("the store is away")
            return self._file.read_at(offset, length)

    file = Failing()
    shards.open((b"a", "1"), file, "parquet")
    with pytest.raises(TransientError, match="the store is away"):
        shards.read((b"a", "1"), "0:7:image", MOST)
    assert shards.read((b"a", "1"), "0:7:image", MOST) == bytes([7]) * 9000
    file._file.close()


def test_a_child_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.exit('no such library')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "a.tar").write_bytes(packed([("a.jpg", b"x")]))
    with pytest.raises(FatalError, match=r"does not start .*no such library"):
        listed(tmp_path / "a.tar")


def test_no_process_is_left(tmp_path: Path) -> None:
    """Neither when the reader is closed nor when it is forgotten."""
    import psutil

    path = tmp_path / "a.parquet"
    path.write_bytes(written(pa.table({"image": [b"x"]})))
    before = {child.pid for child in psutil.Process().children()}
    for is_closed in (True, False):
        reader = SourceReader(str(path))
        assert reader.read(listed(path)[0]) == b"x"
        assert {child.pid for child in psutil.Process().children()} - before
        if is_closed:
            reader.close()
        del reader
        assert {child.pid for child in psutil.Process().children()} == before


def test_limits_are_of_the_child_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(packed([("a.jpg", b"x")]))
    before = resource.getrlimit(resource.RLIMIT_AS)
    listed(tmp_path / "a.tar")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_what_is_opened_is_a_file_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(packed([("a.jpg", b"x")]))
    uri = f"file://{tmp_path}/a.tar".encode()
    with open_ranged(SourceImage("", "a", uri, 1, ""), Stores()) as file:
        assert isinstance(file, LocalFile)
