"""Files of any kind that a path may lead to, against what each is by its making."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from restyle.core.errors import CheckpointError, SpecError
from restyle.core.files import (
    MOST_TOML,
    folder_of,
    open_file,
    parse_json,
    read_bytes,
    read_text,
    read_toml,
)
from restyle.core.networks.config import file_sha256, read_config


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Paths that are no regular files, by kind."""
    folder, pipe, loop = tmp_path / "folder", tmp_path / "pipe", tmp_path / "loop"
    folder.mkdir()
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    bound = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    # A socket's address has at most 107 bytes.
    os.chdir(tmp_path)
    bound.bind("socket")
    os.chdir(before)
    yield {
        "folder": folder,
        "pipe": pipe,
        "socket": tmp_path / "socket",
        "loop": loop,
        "device": Path("/dev/zero"),
        "missing": tmp_path / "missing",
    }
    bound.close()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("folder", "it is a folder"),
        ("pipe", "it is a pipe"),
        ("socket", "No such device or address"),
        ("loop", "Too many levels of symbolic links"),
        ("device", "it is a device"),
        ("missing", "No such file or directory"),
    ],
)
def test_what_is_no_regular_file_says_what_it_is(
    odd: dict[str, Path], kind: str, reason: str
) -> None:
    path = odd[kind]
    with pytest.raises(OSError, match=reason):
        open_file(path)
    with pytest.raises(CheckpointError, match=f"{path} cannot be read: {reason}"):
        file_sha256(path)
    if kind != "pipe":
        with pytest.raises(SpecError, match=f"--list {path} cannot be read: {reason}"):
            read_text(path, named=f"--list {path}")


def test_a_regular_file_and_a_link_to_it_are_read_whole(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "link").symlink_to("file")
    with open_file(tmp_path / "link") as file:
        assert os.get_blocking(file.fileno())
        assert file.read() == data
    assert read_bytes(tmp_path / "link", len(data)) == data


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_a_file_may_have_as_many_bytes_as_allowed_and_no_more(tmp_path: Path, extra: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (1000 + extra))
    if not extra:
        assert read_bytes(path, 1000) == b"x" * 1000
        return
    with pytest.raises(OSError, match="it has more than 1,000 bytes"):
        read_bytes(path, 1000)


def test_a_huge_file_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(SpecError, match="it has more than 262,144 bytes"):
        read_toml(path)


def test_a_pipe_is_read_until_its_writer_ends() -> None:
    reader, writer = os.pipe()
    # As a shell passes <(...): the file is opened while the pipe is still empty.
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(read_toml, Path(f"/dev/fd/{reader}"))
        for part in (b"a = ", b"1\n"):
            os.write(writer, part)
        os.close(writer)
        assert read.result(timeout=60) == {"a": 1}
    os.close(reader)


def test_a_pipe_that_nobody_writes_to_is_empty(odd: dict[str, Path]) -> None:
    assert read_bytes(odd["pipe"], 10) == b""


def test_relative_paths_are_meant_from_the_files_folder_or_from_here(
    odd: dict[str, Path], tmp_path: Path
) -> None:
    assert folder_of(tmp_path / "job.toml") == tmp_path
    assert folder_of(odd["pipe"]) == Path()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xfea\x00", "it is not text in UTF-8"),
        (b"a = '\x80'", "it is not text in UTF-8"),
        (b"a = " + b"[" * 100_000, "is nested too deeply"),
        (b"a = " + b"{a = " * 50_000, "is nested too deeply"),
        (b"a = " + b"9" * 5_000, "is no TOML: a number has thousands of digits"),
        (b"a" + b".a" * 100_000 + b" = 1", "a key has more than 100 parts"),
        (b"a" + b" .\ta" * 50_000 + b" = 1", "a key has more than 100 parts"),
        (b"[" + b"a." * 100_000 + b"a]", "a key has more than 100 parts"),
        (b'"\\""' + b'."\\""' * 20_000 + b" = 1", "a key has more than 100 parts"),
        (b"x = {" + b"a." * 100_000 + b"a = 1}", "a key has more than 100 parts"),
        (b"\0" * 100, "is no TOML"),
        (b"x" * (MOST_TOML + 1), "it has more than 262,144 bytes"),
    ],
)
def test_toml_that_is_none_is_refused_in_one_line(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(data)
    with pytest.raises(SpecError, match=reason) as error:
        read_toml(path)
    assert str(error.value).startswith(f"{path} ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "line", ["# " + "." * 500, 'x = "' + "a." * 500 + '"', "x = [" + "1.5, " * 500 + "]"]
)
def test_dots_that_part_no_key_are_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "any.toml"
    path.write_text(f"{line}\ny = 1\n")
    assert read_toml(path)["y"] == 1


def test_toml_of_editors_that_mark_their_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(b"\xef\xbb\xbfa = '\xc3\xa4'\n")
    assert read_toml(path) == {"a": "ä"}


@pytest.mark.parametrize(
    "data", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "9" * 5_000, "{"]
)
def test_json_of_any_origin_is_parsed_or_a_value_error(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)
    assert parse_json('{"a": [1]}') == parse_json(b'{"a": [1]}') == {"a": [1]}


def test_a_model_whose_description_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.json")
    with pytest.raises(CheckpointError, match="is not valid: the file"):
        read_config(tmp_path)
