"""Files of a local folder, each written to a temporary file that is renamed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from restyle.core.errors import FatalError, reason_of
from restyle.core.files import open_file
from restyle.pipeline.storage.addresses import shown_uri
from restyle.pipeline.storage.containment import parent_inside, path_inside
from restyle.pipeline.storage.errors import storage_errors
from restyle.pipeline.storage.storage import Part, Storage

_FOLDER_TRIES = 3


class LocalStorage(Storage):
    """A folder of this machine.

    Args:
        root: its path; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.address = str(root)
        self.uri = shown_uri(self.address)
        with storage_errors("cannot look at", self.uri):
            self._was_there = root.exists()
            self._folders_before = _folders(root)

    def path(self, name: str) -> Path:
        """The path of a file or folder, checked to be inside of the root."""
        return path_inside(self._root, name, self.uri)

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside its place, let it reach the disk and rename it."""
        with storage_errors("cannot write", self.shown(name)):
            target = parent_inside(self._root, name, self.uri) / name.rpartition("/")[2]
            for attempt in range(_FOLDER_TRIES):
                try:
                    return _replace(target, data)
                except FileNotFoundError as error:
                    # A withdrawing driver may have removed the folder meanwhile.
                    if attempt + 1 == _FOLDER_TRIES:
                        reason = reason_of(error)
                        raise FatalError(f"cannot write {self.shown(name)}: {reason}") from error
            raise AssertionError("the last try returns or raises")

    def read_parts(self, parts: Sequence[Part]) -> list[bytes]:
        """Read parts of files, one after the other."""
        return [self._read(part) for part in parts]

    def _read(self, part: Part) -> bytes:
        with (
            storage_errors("cannot read", self.shown(part.name)),
            open_file(self.path(part.name)) as file,
        ):
            file.seek(part.start)
            return file.read() if part.size is None else _up_to(file, part.size)

    def sizes(self, folder: str, prefix: str = "") -> dict[str, int]:
        """List the files directly inside a folder; links are listed and not followed."""
        found: dict[str, int] = {}
        with storage_errors("cannot list", self.shown(folder)):
            try:
                entries = sorted(os.scandir(self.path(folder)), key=lambda entry: entry.name)
            except FileNotFoundError:
                return {}
            for entry in entries:
                if not entry.name.startswith(prefix):
                    continue
                # Another process may remove a file meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    # Links are listed, so that they are noticed, but not followed.
                    is_file = entry.is_symlink() or entry.is_file(follow_symlinks=False)
                    if is_file and not entry.name.startswith("."):
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        found[name] = entry.stat(follow_symlinks=False).st_size
        return found

    def tree(self) -> dict[str, int]:
        """List all files below the folder."""
        found: dict[str, int] = {}
        with storage_errors("cannot list", self.uri):
            for folder, _, names in os.walk(self._root):
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        found[str(path.relative_to(self._root))] = path.lstat().st_size
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        """Remove a file, or a link itself, if it exists."""
        with storage_errors("cannot delete", self.shown(name)):
            folder = parent_inside(self._root, name, self.uri)
            (folder / name.rpartition("/")[2]).unlink(missing_ok=True)

    def move(self, name: str, target: str) -> None:
        """Rename a file or link."""
        with storage_errors("cannot move", self.shown(name)):
            source = parent_inside(self._root, name, self.uri) / name.rpartition("/")[2]
            to = parent_inside(self._root, target, self.uri) / target.rpartition("/")[2]
            to.parent.mkdir(parents=True, exist_ok=True)
            source.replace(to)

    def is_link(self, name: str) -> bool:
        """Whether a file or folder is a link."""
        with storage_errors("cannot look at", self.shown(name)):
            folder = parent_inside(self._root, name, self.uri)
            return (folder / name.rpartition("/")[2]).is_symlink()

    def check_writable(self) -> None:
        """Check that the folder, or the nearest one above it, takes a file."""
        with storage_errors("cannot write to", self.uri):
            existing = self._root
            while not existing.exists() and existing != existing.parent:
                existing = existing.parent
            if not existing.is_dir():
                raise FatalError(f"cannot write to {self.uri}: {existing} is a file, not a folder")
            probe = existing / f".restyle-{os.getpid()}-{secrets.token_hex(4)}.tmp"
            try:
                probe.touch()
            finally:
                probe.unlink(missing_ok=True)

    def sweep(self, folder: str) -> None:
        """Remove temporary files of killed writers; those of other programs and users stay."""
        with storage_errors("cannot clean", self.shown(folder)):
            for leftover in self.path(folder).glob(".*.tmp"):
                with contextlib.suppress(FileNotFoundError):
                    if _is_temporary(leftover):
                        leftover.unlink()

    def prune(self, folders: Sequence[str] | None = None) -> None:
        """Remove empty folders; by default those that did not exist before."""
        if folders is None:
            found = sorted(_folders(self._root) - self._folders_before)
        else:
            found = [self._root / folder for folder in folders]
        for folder in found if self._was_there else [*found, self._root]:
            # Folders that are not empty, or not removable, stay.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _up_to(file: io.FileIO, size: int) -> bytes:
    """Read until there are as many bytes, or the file ends."""
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def _replace(target: Path, data: bytes) -> None:
    nonce = secrets.token_hex(8)
    temporary = target.with_name(_temporary_name(target.name, nonce))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<nonce>[0-9a-f]{16})-[0-9a-f]{16}\.tmp", re.DOTALL)


def _temporary_name(name: str, nonce: str) -> str:
    """Name of a file while it is written.

    Hidden and without .parquet, so that readers and globs skip it. The digest of name and nonce
    marks it as this project's, so that no user's file is removed by accident.
    """
    told = os.fsencode(f"restyle temporary file\0{name}\0{nonce}")
    return f".{name}.{nonce}-{hashlib.sha256(told).hexdigest()[:16]}.tmp"


def _is_temporary(path: Path) -> bool:
    """Whether a file is a temporary file of this project and user."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None or path.name != _temporary_name(match["name"], match["nonce"]):
        return False
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and found.st_nlink == 1


def _folders(root: Path) -> set[Path]:
    """The subfolders of a folder, without links."""
    try:
        return {Path(entry) for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)}
    except OSError:
        return set()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
