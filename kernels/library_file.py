"""Compiled libraries with an appended checksum, which the loader ignores.

Library and checksum are one file, so that one rename puts both into place.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

_MARK = b"restyle library sha256:"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def seal(library: Path) -> None:
    """Append a library's checksum and remove write access of other users."""
    with library.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    library.chmod(0o700)
    with library.open("ab") as file:
        file.write(_MARK + digest)
        file.flush()
        os.fsync(file.fileno())


def is_intact(library: Path) -> bool:
    """Whether a file exists, has a valid checksum, and is writable only by this user or root.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        descriptor = os.open(library, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        if library.is_symlink():
            return False
        raise
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not is_ours(found):
            return False
        data = file.read()
    end = len(data) - len(_MARK) - hashlib.sha256().digest_size
    return data[end:] == _MARK + hashlib.sha256(memoryview(data)[: max(end, 0)]).digest()


def is_ours(found: os.stat_result) -> bool:
    """Whether a path is owned by this user or root, and not writable by a group or others."""
    return found.st_uid in (os.getuid(), 0) and not found.st_mode & _OTHERS_WRITE
