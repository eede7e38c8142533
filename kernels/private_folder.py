"""Temporary folders that prove whose they are, so that those of killed processes can be removed.

A name proves nothing, because a user may choose the same one. A folder is removed only if it holds
a marker that this project wrote, as this user and for this very folder, and that no living process
holds locked.
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
    """A temporary folder that only this user may enter, marked and locked while it is used.

    Args:
        parent: where to make it.
        prefix: of its name.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, parent: str | os.PathLike[str], prefix: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            self._marker = _mark(self.path)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def remove(self) -> None:
        """Remove the folder with all that it holds."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._marker)


def remove_abandoned(parent: str | os.PathLike[str], prefix: str) -> None:
    """Remove the private folders that killed processes of this user left.

    Args:
        parent: where to look; not below it.
        prefix: of their names.
    """
    for folder in Path(parent).glob(f"{prefix}*"):
        with _abandoned(folder) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(folder, ignore_errors=True)


def _mark(folder: Path) -> int:
    """Write the marker and lock it; the descriptor that holds the lock."""
    # Under another name first, so that a marker is never seen before it is whole and locked.
    unlocked = folder / f"{MARKER}.new"
    marker = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        # A file system without locks: nobody will get this one either, so the folder stays.
        with contextlib.suppress(OSError):
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(marker, _content(folder))
        unlocked.replace(folder / MARKER)
    except BaseException:
        os.close(marker)
        raise
    return marker


def _content(folder: Path) -> bytes:
    """What a folder's marker says: a copy or a renamed folder is the user's."""
    about = {"made_by": "restyle-pipeline", "name": folder.name, "inode": folder.lstat().st_ino}
    return json.dumps(about).encode()


@contextlib.contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Whether a folder is one of this user's, marked, and used by no process; locked meanwhile."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or not _is_ours(found):
            yield False
            return
        # Not waiting for a writer, should it be a pipe.
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
    """Owned by this user, and nobody else may write there."""
    return found.st_uid == os.getuid() and not found.st_mode & _OTHERS_WRITE


def _lock(marker: int) -> bool:
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
