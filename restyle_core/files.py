"""Files that a user names: opening them, and reading small ones.

A path may lead to anything: a device gives bytes without end, a pipe that nobody writes to blocks,
a text may be nested deeper than its parser can follow. Each ends in one sentence here.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from restyle.core.errors import SpecError, reason_of

MOST_TOML = 1 << 18
"""Bytes of the largest TOML file: 40 times the example of a job with all options explained."""
MOST_TEXT = 1 << 26
"""Bytes of the largest list of names: a million of 64 characters."""

_MOST_PARTS = 100
_PART = r"""(?:[\w-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(
    rf"(?:^|[\[{{,])[ \t]*(?:{_PART}\.[ \t]*){{{_MOST_PARTS}}}", re.ASCII | re.MULTILINE
)

_KINDS = (
    (stat.S_ISDIR, "it is a folder, not a file"),
    (stat.S_ISFIFO, "it is a pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


def open_file(path: Path, *, pipes: bool = False) -> io.FileIO:
    """Open a regular file for reading, without a buffer.

    Args:
        path: of the file.
        pipes: whether a pipe will do, such as ``/dev/stdin`` or a shell's ``<(...)``. One that
            nobody writes to is empty.

    Raises:
        OSError: the file is missing or unreadable, or is a folder, a device, a socket or a pipe;
            its ``strerror`` says so.
    """
    # O_NONBLOCK, because opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not (pipes and stat.S_ISFIFO(mode)):
            reason = next((text for is_kind, text in _KINDS if is_kind(mode)), "it is no file")
            raise OSError(errno.EINVAL, reason)
        os.set_blocking(descriptor, True)
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, most: int) -> bytes:
    """Read a small file or pipe.

    Args:
        path: of the file.
        most: number of bytes that it may have.

    Raises:
        OSError: as :func:`open_file`, or it is larger; its ``strerror`` says so.
    """
    data = bytearray()
    with open_file(path, pipes=True) as file:
        while len(data) <= most and (more := file.read(most + 1 - len(data))):
            data += more
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes")
    return bytes(data)


def read_text(path: Path, most: int = MOST_TEXT, *, named: str = "") -> str:
    """Read a small text, without the mark that some editors put in front of it.

    Args:
        path: of a file or pipe.
        most: as for :func:`read_bytes`.
        named: what messages call it; the path by default.

    Raises:
        SpecError: it cannot be read, is too large, or is not UTF-8.
    """
    named = named or str(path)
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"{named} cannot be read: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{named} cannot be read: it is not text in UTF-8 (byte {error.start:,})"
        ) from error


def read_toml(path: Path, *, named: str = "") -> dict[str, Any]:
    """Read a small TOML file.

    Args:
        path: of a file or pipe.
        named: as for :func:`read_text`.

    Raises:
        SpecError: as :func:`read_text`; or it is not TOML, or is nested too deeply.
    """
    named = named or str(path)
    text = read_text(path, MOST_TOML, named=named)
    # The parser's time grows with the cube of a key's parts.
    if _LONG_KEY.search(text):
        raise SpecError(f"{named} cannot be read: a key has more than {_MOST_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise SpecError(f"{named} is no TOML: it is nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{named} is no TOML: {error}") from error
    except ValueError as error:
        # Python refuses to read longer ones, which take it long.
        raise SpecError(f"{named} is no TOML: a number has thousands of digits") from error


def parse_json(data: str | bytes) -> Any:
    """Parse JSON of any origin.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def folder_of(path: Path) -> Path:
    """Return the folder that relative paths in a file are meant from.

    It is the file's own; for a pipe, which lies nowhere, the working directory.
    """
    return Path() if path.is_fifo() else path.parent
