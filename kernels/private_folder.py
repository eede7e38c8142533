"""Temporary folders with a marker, so that those of killed processes can be removed.

A user's folder may have the same name. A folder is removed only if its marker was written by this
project and user for this folder, and if no living process has locked the marker.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

MARKER = ".restyle-temporary.json"
"""Name of the marker inside a folder."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LONGEST_MARKER = 4096


class PrivateFolder:
    """A temporary folder with access for this user only, marked and locked while in use.

    Args:
        parent: its parent folder.
        prefix: of its name.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, parent: str | os.PathLike[str], prefix: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            self._marker = _mark(self.path)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def remove(self) -> None:
        """Remove the folder and its content."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._marker)


def remove_abandoned(parent: str | os.PathLike[str], prefix: str) -> None:
    """Remove private folders of this user's killed processes.

    Args:
        parent: their parent folder; subfolders are not searched.
        prefix: of their names.
    """
    for folder in Path(parent).glob(f"{prefix}*"):
        with _abandoned(folder) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(folder, ignore_errors=True)


def _mark(folder: Path) -> int:
    """Write and lock the marker; returns the descriptor that holds the lock."""
    # Written under another name first, so that a visible marker is complete and locked.
    unlocked = folder / f"{MARKER}.new"
    marker = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        # Without locks in the file system the folder is never removed as abandoned.
        with contextlib.suppress(OSError):
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(marker, _content(folder))
        unlocked.replace(folder / MARKER)
    except BaseException:
        os.close(marker)
        raise
    return marker


def _content(folder: Path) -> bytes:
    """Content of a folder's marker; it does not match a copied or renamed folder."""
    about = {"made_by": "restyle-pipeline", "name": folder.name, "inode": folder.lstat().st_ino}
    return json.dumps(about).encode()


@contextlib.contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Whether a folder is marked, this user's and unused; locked during the context."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or not _is_ours(found):
            yield False
            return
        # O_NONBLOCK, so that opening a pipe does not block.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
        marker = os.open(folder / MARKER, flags)
    except OSError:
        yield False
        return
    try:
        yield _is_marker(marker, folder) and _lock(marker)
    finally:
        os.close(marker)


def _is_marker(marker: int, folder: Path) -> bool:
    found = os.fstat(marker)
    if not stat.S_ISREG(found.st_mode) or not _is_ours(found) or found.st_nlink != 1:
        return False
    try:
        return os.read(marker, _LONGEST_MARKER) == _content(folder)
    except OSError:
        return False


def _is_ours(found: os.stat_result) -> bool:
    """Whether a path is owned by this user and not writable by others."""
    return found.st_uid == os.getuid() and not found.st_mode & _OTHERS_WRITE


def _lock(marker: int) -> bool:
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
