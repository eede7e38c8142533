"""Bytes in and out of any fsspec URI, with writes that are there whole or not at all.

A local file is written beside its place and moved there; an object is one PUT. What a remote store
refuses for the moment is tried again (:mod:`restyle.pipeline.storage.retries`), which is
harmless for everything
that is done here: the same bytes are put, read or removed once more.
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
"""Bytes a second that a write must come to, or it counts as stuck."""
_FOLDER_TRIES = 3


class Storage(ABC):
    """A folder, local or remote, that holds files by relative name (``latents/part-1.parquet``).

    Attributes:
        uri: where it is, as a person may see it.
    """

    uri: str

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Put a whole file in place, replacing an older one.

        Raises:
            FatalError: no space, no permission, no such bucket.
            TransientError: anything that may work when tried again.
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none of this name.
            FatalError: no permission.
            TransientError: anything that may work when tried again.
        """

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Files directly inside a folder: relative name to bytes, sorted; empty when missing."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; nothing happens when it is not there."""

    def move(self, name: str, target: str) -> None:
        """Give a file, or a link, another name inside; what bore that name is replaced.

        Raises:
            FileNotFoundError: there is none of the first name.
            FatalError, TransientError: as :meth:`write`.
        """
        self.write(target, self.read(name))
        self.delete(name)

    def is_link(self, name: str) -> bool:
        """Whether a file or folder is a link, which is not followed; object stores have none."""
        check_name(name, self.uri)
        return False

    @abstractmethod
    def check_writable(self) -> None:
        """Find out that writing will work, before anything is computed; leaves nothing behind.

        Raises:
            FatalError: it will not, with the reason.
        """

    def read_many(self, names: list[str]) -> list[bytes]:
        """The content of several files, in order."""
        return [self.read(name) for name in names]

    def sweep(self, folder: str) -> None:  # noqa: B027 (remote stores leave nothing behind)
        """Remove what a killed writer of this project and user left half-written in a folder."""

    def prune(self, folders: Sequence[str] | None = None) -> None:  # noqa: B027 (objects have none)
        """Remove folders that hold nothing, and the output's own when it was not there before.

        Args:
            folders: the ones that may go; when None, those that were not there before.
        """

    def shown(self, name: str) -> str:
        """Where a file is, as a person may see it."""
        return f"{self.uri.rstrip('/')}/{name}"


def open_storage(uri: str) -> Storage:
    """Open an output location.

    Args:
        uri: a local path, ``file://`` or any URI that an installed fsspec package handles.

    Raises:
        SpecError: an unknown scheme, a missing package, or a password in the URI.
    """
    path = local_path(uri)
    if path is not None:
        return _LocalStorage(Path(absolute_path(path)))
    return _RemoteStorage(uri)


def local_file(uri: str, name: str) -> Path | None:
    """The path of an output's file on this machine; None when the output is remote.

    Args:
        uri: the output, a path or any fsspec URI.
        name: relative to it, as the ledger names it.

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
        self.uri = shown_uri(str(root))
        with storage_errors("cannot look at", self.uri):
            self._was_there = root.exists()
            self._folders_before = _folders(root)

    def path(self, name: str) -> Path:
        """Where a file or folder is, once it is known to lie inside."""
        return path_inside(self._root, name, self.uri)

    def write(self, name: str, data: bytes) -> None:
        with storage_errors("cannot write", self.shown(name)):
            target = parent_inside(self._root, name, self.uri) / name.rpartition("/")[2]
            for attempt in range(_FOLDER_TRIES):
                try:
                    return _replace(target, data)
                except FileNotFoundError as error:
                    # A driver that withdraws may remove the folder that was just made.
                    if attempt + 1 == _FOLDER_TRIES:
                        reason = error.strerror
                        raise FatalError(f"cannot write {self.shown(name)}: {reason}") from error
            raise AssertionError("the last try returns or raises")

    def read(self, name: str) -> bytes:
        with storage_errors("cannot read", self.shown(name)):
            return self.path(name).read_bytes()

    def sizes(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with storage_errors("cannot list", self.shown(folder)):
            try:
                entries = sorted(os.scandir(self.path(folder)), key=lambda entry: entry.name)
            except FileNotFoundError:
                return {}
            for entry in entries:
                # A file may be removed by somebody else while we look.
                with contextlib.suppress(FileNotFoundError):
                    # Links are listed, so that they are noticed; to read one is refused.
                    is_file = entry.is_symlink() or entry.is_file(follow_symlinks=False)
                    if is_file and not entry.name.startswith("."):
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        found[name] = entry.stat(follow_symlinks=False).st_size
        return found

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
            # Not empty, or not ours to remove: it stays.
            with contextlib.suppress(OSError):
                folder.rmdir()


class _RemoteStorage(Storage):
    def __init__(self, uri: str) -> None:
        self._filesystem, path = open_filesystem(uri)
        self._root = path.rstrip("/")
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
        # Late, because local runs need no fsspec.
        from fsspec.asyn import sync

        limit = 2 * storage_timeout() + len(data) / _SLOWEST

        async def limited() -> None:
            # The client waits for ever when a server takes the headers of a write, or a part of its
            # body, and then says and takes nothing more.
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
        """Read files by number, all at once; what was read is not read again when one failed."""
        asked = [index for index in missing if index not in found]
        paths = [f"{self._root}/{names[index]}" for index in asked]
        with storage_errors("cannot read", self.uri):
            # Not cat, which would take the names for patterns.
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

    def sizes(self, folder: str) -> dict[str, int]:
        check_name(folder, self.uri)
        prefix = f"{self._root}/{folder}".rstrip("/")

        def listed() -> list[dict[str, Any]]:
            with storage_errors("cannot list", self.shown(folder)):
                try:
                    return list(self._filesystem.ls(prefix, detail=True))
                except FileNotFoundError:
                    return []

        return {
            (f"{folder}/" if folder else "") + name: int(entry["size"] or 0)
            for entry in sorted(retrying(listed), key=lambda entry: str(entry["name"]))
            if entry["type"] == "file"
            and (name := str(entry["name"]).rpartition("/")[2])
            and not name.startswith(".")
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
        # An object store tells only on a PUT, so one is made and taken back.
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
    """What a file is called while it is written.

    Hidden, so that readers of the folder skip it; not .parquet, so that globs do. The digest over
    name and nonce marks it as this project's: no file of a user's has one by accident.
    """
    told = os.fsencode(f"restyle temporary file\0{name}\0{nonce}")
    return f".{name}.{nonce}-{hashlib.sha256(told).hexdigest()[:16]}.tmp"


def _is_temporary(path: Path) -> bool:
    """Whether this project wrote a file, as this user, on its way to its place."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None or path.name != _temporary_name(match["name"], match["nonce"]):
        return False
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and found.st_nlink == 1


def _folders(root: Path) -> set[Path]:
    """The folders directly inside one, links left out."""
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
