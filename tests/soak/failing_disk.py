"""A file system that fails the n-th write below a folder, as a full disk does."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class FailingDisk:
    """Counts writes below a folder, and fails some.

    A write is the opening of a file to write it, the flush of its bytes to the disk, a rename, or a
    folder that is made: each may be what finds the disk full.

    Attributes:
        root: the folder.
        fails: number of the write that fails, from 1 on; 0 for none.
        stays: all later ones fail too.
        writes: that there were so far.
        failed: of these.
    """

    root: Path
    fails: int = 0
    stays: bool = False
    writes: int = 0
    failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, path: object) -> None:
        """Take note of a write to a path; raises what a full disk does when its time has come."""
        # Signs of life come by the clock, and would make the count a matter of chance.
        if threading.current_thread().name == "driver-beat" or not isinstance(path, str | bytes):
            return
        if not os.fsdecode(path).startswith(str(self.root)):
            return
        with self._lock:
            self.writes += 1
            if not self.fails or self.writes < self.fails:
                return
            if self.writes > self.fails and not self.stays:
                return
            self.failed += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_current: FailingDisk | None = None
_fsync = os.fsync
_installed = False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    disk = _current
    if disk is None:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
        disk.write(arguments[0])
    elif event == "os.mkdir":
        path = arguments[0]
        # To make a folder that is there already writes nothing.
        if isinstance(path, str | bytes) and not Path(os.fsdecode(path)).exists():
            disk.write(path)
    elif event == "os.rename":
        disk.write(arguments[1])


def _checked_fsync(descriptor: int) -> None:
    if _current is not None:
        _current.write(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    _fsync(descriptor)


@contextlib.contextmanager
def failing_disk(root: Path, fails: int = 0, *, stays: bool = False) -> Iterator[FailingDisk]:
    """Let the n-th write below a folder fail, for as long as the block lasts."""
    global _current, _installed
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True
    _current = disk = FailingDisk(root, fails, stays)
    os.fsync = _checked_fsync
    try:
        yield disk
    finally:
        os.fsync = _fsync
        _current = None
