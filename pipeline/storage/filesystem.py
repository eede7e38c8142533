"""Reading and atomic writing of files on any fsspec URI.

A local file is written to a temporary file and renamed; an object is written by one PUT. Transient
failures of remote stores are retried (:mod:`restyle.pipeline.storage.retries`); all operations are
idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import re
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restyle.core.errors import FatalError, TransientError
from restyle.pipeline.storage.addresses import (
    absolute_path,
    local_path,
    open_filesystem,
    shown_uri,
    storage_timeout,
)
from restyle.pipeline.storage.containment import check_name, parent_inside, path_inside
from restyle.pipeline.storage.errors import explained, storage_errors
from restyle.pipeline.storage.retries import retrying

__all__ = [
    "Storage",
    "absolute_path",
    "local_file",
    "local_path",
    "open_filesystem",
    "open_storage",
    "shown_uri",
    "storage_errors",
]

_READ_AT_ONCE = 256
_SLOWEST = 256 * 1024
"""Bytes per second below which a write counts as stuck."""
_FOLDER_TRIES = 3


class Storage(ABC):
    """A local or remote folder with files by relative name (``latents/part-1.parquet``).

    Attributes:
        address: as :func:`open_storage` takes it.
        uri: the same, for display.
    """

    address: str
    uri: str

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file atomically.

        Raises:
            FatalError: no space, no permission, no such bucket.
            TransientError: a retry may help.
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: there is no such file.
            FatalError: no permission.
            TransientError: a retry may help.
        """

    @abstractmethod
    def sizes(self, folder: str, prefix: str = "") -> dict[str, int]:
        """List the files directly inside a folder; none when it is missing.

        Args:
            folder: relative to the output; empty for the output itself.
            prefix: what the files' own names begin with. A store that can lists no others.

        Returns:
            Relative name to bytes, sorted.
        """

    @abstractmethod
    def tree(self) -> dict[str, int]:
        """List all files below the folder, hidden ones too; none when it is missing.

        Returns:
            Relative name to bytes, sorted. Links are listed and not followed.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file if it exists."""

    def move(self, name: str, target: str) -> None:
        """Rename a file or link, replacing an existing target.

        Raises:
            FileNotFoundError: there is no such file.
            FatalError, TransientError: as :meth:`write`.
        """
        self.write(target, self.read(name))
        self.delete(name)

    def is_link(self, name: str) -> bool:
        """Whether a file or folder is a link; object stores have none."""
        check_name(name, self.uri)
        return False

    @abstractmethod
    def check_writable(self) -> None:
        """Check that writing works, without leaving files.

        Raises:
            FatalError: it does not work.
        """

    def read_many(self, names: list[str]) -> list[bytes]:
        """The content of several files, in order."""
        return [self.read(name) for name in names]

    def sweep(self, folder: str) -> None:  # noqa: B027 (remote stores leave nothing behind)
        """Remove temporary files of killed writers of this project and user in a folder."""

    def prune(self, folders: Sequence[str] | None = None) -> None:  # noqa: B027 (objects have none)
        """Remove empty folders, and the output's folder if it did not exist before.

        Args:
            folders: folders to remove; when None, those that did not exist before.
        """

    def shown(self, name: str) -> str:
        """Address of a file, for display."""
        return f"{self.uri.rstrip('/')}/{name}"


def open_storage(uri: str) -> Storage:
    """Open an output location.

    Args:
        uri: a local path, ``file://`` or any URI that an installed fsspec package handles.

    Raises:
        SpecError: the scheme is unknown, a package is missing, or the URI contains a secret.
    """
    path = local_path(uri)
    if path is not None:
        return _LocalStorage(Path(absolute_path(path)))
    return _RemoteStorage(uri)


def local_file(uri: str, name: str) -> Path | None:
    """The local path of an output's file; None for a remote output.

    Args:
        uri: the output, a path or any fsspec URI.
        name: relative to it, as in the ledger.

    Raises:
        FatalError: the name leads out of the output, or through a link.
    """
    path, shown = local_path(uri), shown_uri(uri)
    if path is None:
        check_name(name, shown)
        return None
    with storage_errors("cannot look at", f"{shown.rstrip('/')}/{name}"):
        return path_inside(Path(absolute_path(path)), name, shown)


class _LocalStorage(Storage):
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
        with storage_errors("cannot write", self.shown(name)):
            target = parent_inside(self._root, name, self.uri) / name.rpartition("/")[2]
            for attempt in range(_FOLDER_TRIES):
                try:
                    return _replace(target, data)
                except FileNotFoundError as error:
                    # A withdrawing driver may have removed the folder meanwhile.
                    if attempt + 1 == _FOLDER_TRIES:
                        reason = error.strerror
                        raise FatalError(f"cannot write {self.shown(name)}: {reason}") from error
            raise AssertionError("the last try returns or raises")

    def read(self, name: str) -> bytes:
        with storage_errors("cannot read", self.shown(name)):
            return self.path(name).read_bytes()

    def sizes(self, folder: str, prefix: str = "") -> dict[str, int]:
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
        found: dict[str, int] = {}
        with storage_errors("cannot list", self.uri):
            for folder, _, names in os.walk(self._root):
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        found[str(path.relative_to(self._root))] = path.lstat().st_size
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        with storage_errors("cannot delete", self.shown(name)):
            folder = parent_inside(self._root, name, self.uri)
            (folder / name.rpartition("/")[2]).unlink(missing_ok=True)

    def move(self, name: str, target: str) -> None:
        with storage_errors("cannot move", self.shown(name)):
            source = parent_inside(self._root, name, self.uri) / name.rpartition("/")[2]
            to = parent_inside(self._root, target, self.uri) / target.rpartition("/")[2]
            to.parent.mkdir(parents=True, exist_ok=True)
            source.replace(to)

    def is_link(self, name: str) -> bool:
        with storage_errors("cannot look at", self.shown(name)):
            folder = parent_inside(self._root, name, self.uri)
            return (folder / name.rpartition("/")[2]).is_symlink()

    def check_writable(self) -> None:
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
        with storage_errors("cannot clean", self.shown(folder)):
            for leftover in self.path(folder).glob(".*.tmp"):
                with contextlib.suppress(FileNotFoundError):
                    if _is_temporary(leftover):
                        leftover.unlink()

    def prune(self, folders: Sequence[str] | None = None) -> None:
        if folders is None:
            found = sorted(_folders(self._root) - self._folders_before)
        else:
            found = [self._root / folder for folder in folders]
        for folder in found if self._was_there else [*found, self._root]:
            # Folders that are not empty, or not removable, stay.
            with contextlib.suppress(OSError):
                folder.rmdir()


class _RemoteStorage(Storage):
    def __init__(self, uri: str) -> None:
        self._filesystem, path = open_filesystem(uri)
        self._root = path.rstrip("/")
        self.address = uri
        self.uri = shown_uri(uri)

    def write(self, name: str, data: bytes) -> None:
        check_name(name, self.uri)

        def put() -> None:
            with storage_errors("cannot write", self.shown(name)):
                try:
                    self._put(f"{self._root}/{name}", data)
                except FileNotFoundError as error:
                    raise FatalError(f"cannot write {self.shown(name)}: {error}") from error

        retrying(put)

    def _put(self, path: str, data: bytes) -> None:
        if not self._filesystem.async_impl:
            self._filesystem.pipe_file(path, data)
            return
        # Imported late, because local runs need no fsspec.
        from fsspec.asyn import sync

        limit = 2 * storage_timeout() + len(data) / _SLOWEST

        async def limited() -> None:
            # The client has no timeout for a server that accepts part of a request and then stalls.
            await asyncio.wait_for(self._filesystem._pipe_file(path, data), limit)

        sync(self._filesystem.loop, limited)

    def read(self, name: str) -> bytes:
        return self.read_many([name])[0]

    def read_many(self, names: list[str]) -> list[bytes]:
        for name in names:
            check_name(name, self.uri)
        found: dict[int, bytes] = {}
        for start in range(0, len(names), _READ_AT_ONCE):
            missing = list(range(start, min(start + _READ_AT_ONCE, len(names))))
            retrying(functools.partial(self._fetch, names, missing, found))
        return [found[index] for index in range(len(names))]

    def _fetch(self, names: list[str], missing: list[int], found: dict[int, bytes]) -> None:
        """Read missing files by index in parallel; after a failure only the rest is read again."""
        asked = [index for index in missing if index not in found]
        paths = [f"{self._root}/{names[index]}" for index in asked]
        with storage_errors("cannot read", self.uri):
            # Not cat, which would expand patterns in names.
            answers = self._filesystem.cat_ranges(paths, None, None, on_error="return")
        failures: list[Exception] = []
        for index, answer in zip(asked, answers, strict=True):
            if isinstance(answer, FileNotFoundError):
                raise answer
            if isinstance(answer, Exception):
                failures.append(explained(answer, "cannot read", self.shown(names[index])))
            else:
                found[index] = bytes(answer)
        for failure in sorted(failures, key=lambda each: isinstance(each, TransientError)):
            raise failure

    def sizes(self, folder: str, prefix: str = "") -> dict[str, int]:
        check_name(folder, self.uri)
        path = f"{self._root}/{folder}".rstrip("/")

        def listed() -> list[dict[str, Any]]:
            with storage_errors("cannot list", self.shown(folder)):
                try:
                    # Other file systems of fsspec refuse a prefix.
                    if prefix and "s3" in self._filesystem.protocol:
                        found = self._filesystem.find(path, maxdepth=1, detail=True, prefix=prefix)
                        return list(found.values())
                    return list(self._filesystem.ls(path, detail=True))
                except FileNotFoundError:
                    return []

        return {
            (f"{folder}/" if folder else "") + name: int(entry["size"] or 0)
            for entry in sorted(retrying(listed), key=lambda entry: str(entry["name"]))
            if entry["type"] == "file"
            and (name := str(entry["name"]).rpartition("/")[2])
            and name.startswith(prefix)
            and not name.startswith(".")
        }

    def tree(self) -> dict[str, int]:
        def listed() -> dict[str, dict[str, Any]]:
            with storage_errors("cannot list", self.uri):
                try:
                    found: dict[str, dict[str, Any]] = self._filesystem.find(
                        self._root, detail=True
                    )
                    return found
                except FileNotFoundError:
                    return {}

        start = len(self._root.strip("/")) + 1
        return {
            name: int(entry["size"] or 0)
            for path, entry in sorted(retrying(listed).items())
            if (name := path.strip("/")[start:])
        }

    def delete(self, name: str) -> None:
        check_name(name, self.uri)

        def remove() -> None:
            with (
                storage_errors("cannot delete", self.shown(name)),
                contextlib.suppress(FileNotFoundError),
            ):
                self._filesystem.rm_file(f"{self._root}/{name}")

        retrying(remove)

    def check_writable(self) -> None:
        # Only a PUT shows whether an object store is writable.
        probe = f".restyle-probe-{secrets.token_hex(4)}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except TransientError as error:
            raise FatalError(str(error)) from error


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
