"""Atomic writes of a training run's files, without following links.

A run's folder may be a copy or hold links to shared files. A write replaces a symbolic or hard
link and never changes its target.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from restyle.core.errors import FatalError, SpecError, reason_of


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an exception.

    Raises:
        FatalError: the file cannot be written.
    """
    # Several processes of one run may write the same file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise FatalError(f"cannot write {path}: {reason_of(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def cut(path: Path, length: int) -> None:
    """Truncate a file, if there is one; a link is replaced by a copy.

    Raises:
        SpecError: it is not a regular file.
        FatalError: it cannot be read or written.
    """
    if not os.path.lexists(path):
        return
    if not path.is_file() and path.exists():
        raise SpecError(f"{path} is no file; remove it")
    is_own = not path.is_symlink() and path.stat().st_nlink == 1
    if is_own and path.stat().st_size <= length:
        return
    kept = b""
    if length and path.exists():
        with path.open("rb") as file:
            kept = file.read(length)
    with replacing(path) as file:
        file.write(kept)


def append(path: Path, line: str) -> None:
    """Append a line to a file, created when missing.

    Raises:
        SpecError: it is a link.
        FatalError: it cannot be written.
    """
    if path.is_symlink():
        raise SpecError(f"{path} is a link; remove it, it would be written through")
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise FatalError(f"cannot write {path}: {reason_of(error)}") from error


def own_folder(path: Path) -> Path:
    """Create a folder inside a run's folder unless it exists, and return its path.

    Raises:
        SpecError: the path is a link or a file.
        FatalError: the folder cannot be created.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise SpecError(f"{path} is no folder of the run's own; remove it")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FatalError(f"cannot make {path}: {reason_of(error)}") from error
    return path
