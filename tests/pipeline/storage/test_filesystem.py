from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from restyle.core.errors import DamagedError, FatalError, SpecError, TransientError
from restyle.pipeline.storage.filesystem import Part, local_path, open_storage, shown_uri
from restyle.pipeline.storage.rehearsal import Rehearsal
from tests.s3_server import faulty_s3

ROOT = Path(__file__).resolve().parents[3]


def test_a_file_is_there_whole_with_its_folders(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "a" / "b"))
    storage.write("latents/part.parquet", b"one")
    storage.write("latents/part.parquet", b"two!")
    assert (tmp_path / "a/b/latents/part.parquet").read_bytes() == b"two!"
    assert storage.read("latents/part.parquet") == b"two!"
    assert storage.sizes("latents") == {"latents/part.parquet": 4}
    assert [path.name for path in (tmp_path / "a/b/latents").iterdir()] == ["part.parquet"]


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.ENOSPC, FatalError, "no space is left"),
        (errno.EDQUOT, FatalError, "quota"),
        (errno.EIO, TransientError, "Input/output"),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type, words: str
) -> None:
    storage = open_storage(str(tmp_path))
    storage.write("run.json", b"old")

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=words) as caught:
        storage.write("run.json", b"new, and longer")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "run.json") in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"run.json": b"old"}


WRITER = """
import os, sys
from restyle.pipeline.storage.filesystem import open_storage
os.fsync = lambda _: os.kill(os.getpid(), 9)
open_storage(sys.argv[1]).write(sys.argv[2], b"half")
"""


def killed_writer(out: Path, name: str) -> Path:
    """What a writer left that was killed before its file was in place."""
    before = set(out.rglob("*"))
    died = subprocess.run([sys.executable, "-c", WRITER, str(out), name], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    (leftover,) = (path for path in set(out.rglob("*")) - before if path.is_file())
    return leftover


@pytest.mark.parametrize("name", ["latents/part.parquet", "run.json", "_ledger/a.b.json"])
def test_what_a_killed_writer_left_is_hidden_and_swept(tmp_path: Path, name: str) -> None:
    storage = open_storage(str(tmp_path))
    storage.write(name, b"x")
    leftover = killed_writer(tmp_path, name)
    folder = name.rpartition("/")[0]
    assert list(storage.sizes(folder)) == [name]
    storage.sweep(folder)
    assert not leftover.exists()
    assert storage.read(name) == b"x"
    storage.sweep("no such folder")


@pytest.mark.parametrize(
    "name",
    [
        ".foo.tmp",
        ".part.parquet.77-abcd.tmp",
        ".run.json.0123456789abcdef-0123456789abcdef.tmp",
        ".~lock.tmp",
    ],
)
def test_a_users_hidden_file_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    open_storage(str(tmp_path)).sweep("")
    assert (tmp_path / name).read_bytes() == b"precious"


def test_only_this_users_files_are_swept(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "out"))
    names = [killed_writer(tmp_path / "out", f"{name}.json").name for name in "abcd"]
    renamed, linked, hard, folder = ((tmp_path / "out" / name) for name in names)
    renamed.rename(tmp_path / "out" / names[0].replace(".a.", ".z."))
    target = tmp_path / "photo.jpg"
    linked.rename(target)
    linked.symlink_to(target)
    hard.rename(tmp_path / "second name")
    hard.hardlink_to(tmp_path / "second name")
    folder.unlink()
    folder.mkdir()
    before = sorted(tmp_path.rglob("*"))
    storage.sweep("")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_not_swept(tmp_path: Path) -> None:
    leftover = killed_writer(tmp_path, "run.json")
    os.chown(leftover, 12345, 12345)
    open_storage(str(tmp_path)).sweep("")
    assert leftover.exists()


def test_an_output_that_cannot_be_written_is_found_out_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FatalError, match="is a file, not a folder"):
        open_storage(str(tmp_path / "file")).check_writable()
    with pytest.raises(FatalError, match="a file, not a folder"):
        open_storage(str(tmp_path / "file" / "below")).check_writable()
    open_storage(str(tmp_path / "new" / "below")).check_writable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_prune_removes_empty_folders_only(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "out"))
    storage.write("latents/a", b"x")
    storage.write("steps/a", b"x")
    storage.delete("steps/a")
    storage.delete("steps/a")
    storage.prune()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["latents"]
    storage.delete("latents/a")
    storage.prune()
    assert not (tmp_path / "out").exists()


def test_prune_leaves_a_users_folders(tmp_path: Path) -> None:
    for name in ("mine", "latents", "_ledger"):
        (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    storage = open_storage(str(tmp_path / "out"))
    storage.write("steps/a", b"x")
    storage.write("latents/a", b"x")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    storage.delete("steps/a")
    storage.delete("latents/a")
    storage.prune()
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["_ledger", "latents", "link", "mine"]


@pytest.mark.parametrize("place", ["disk", "memory", "s3"])
def test_parts_of_files(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 40
    parts = [
        Part("a/one.bin"), Part("empty"), Part("a/one.bin", 0, 7), Part("two.bin", 300, 1),
        Part("a/one.bin", 255, 9000), Part("two.bin", 10_000), Part("two.bin", 10_200, 500),
    ]  # fmt: skip
    with faulty_s3(monkeypatch) if place == "s3" else contextlib.nullcontext():
        roots = {"disk": str(tmp_path), "memory": "memory://parts", "s3": "s3://bucket/parts"}
        storage = open_storage(roots[place])
        files = {"a/one.bin": data, "two.bin": data[::-1], "empty": b""}
        for name, content in files.items():
            storage.write(name, content)
        for each in (storage, Rehearsal(storage)):
            assert each.read_parts(parts) == [files[part.name][part.start : part.end]
                                              for part in parts]  # fmt: skip
            with pytest.raises(FileNotFoundError):
                each.read_parts([Part("two.bin", 1, 1), Part("gone", 0, 5)])
            with pytest.raises(DamagedError, match="does not lie inside"):
                each.read_parts([Part("../two.bin", 1, 1)])


def test_any_fsspec_file_system_works_the_same() -> None:
    storage = open_storage("memory://storage-test/[o]ut*")
    storage.check_writable()
    assert storage.sizes("") == {}
    storage.write("_ledger/b", b"2")
    storage.write("_ledger/a", b"1")
    storage.write("run.json", b"{}")
    assert storage.sizes("_ledger") == {"_ledger/a": 1, "_ledger/b": 1}
    assert storage.sizes("") == {"run.json": 2}
    assert storage.read_many(["_ledger/b", "_ledger/a"]) == [b"2", b"1"]
    assert storage.read_many([]) == []
    storage.delete("_ledger/b")
    storage.delete("_ledger/b")
    with pytest.raises(FileNotFoundError):
        storage.read("_ledger/b")
    assert storage.shown("run.json") == "memory://storage-test/[o]ut*/run.json"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("photos/a.jpg", "photos/a.jpg"),
        ("s3://bucket/a b.jpg", "s3://bucket/a b.jpg"),
        ("ftp://user:secret@host/a", "ftp://host/a"),
        ("https://host/a.jpg?X-Amz-Signature=secret", "https://host/a.jpg"),
        ("abfs://container@account.dfs.core.windows.net/a",) * 2,
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
    ],
)
def test_no_secret_is_shown(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://user:secret@host/a", "leave the password out"),
        ("https://host/a?sig=secret", "without a query"),
        ("nosuch://a", "nosuch"),
        ("gs://bucket/a", "gcsfs"),
    ],
)
def test_an_address_that_cannot_work_is_refused_in_one_line(uri: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        open_storage(uri)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_local_paths_are_told_from_uris() -> None:
    assert local_path("a/b::c") == "a/b::c"
    assert local_path("file:///a/b") == "/a/b"
    assert local_path("s3://a/b") is None
