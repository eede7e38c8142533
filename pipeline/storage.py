"""Bytes in and out of any fsspec URI, with writes that are there whole or not at all.

A local file is written beside its place and moved there; an object is one PUT. Nothing here, and
nothing shown to a person, carries the user name, password or query of a URI.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from restyle_core.errors import FatalError, RestyleError, SpecError, TransientError

_FATAL_ERRNO = {
    errno.ENOSPC: "no space is left on the device; free some and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "the file would be larger than is allowed",
}

# Raised by object stores' clients outside of the OSError tree; trying again does not help.
_FATAL_NAMES = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound"}
)

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
        """Remove what a killed writer left half-written in a folder."""

    def prune(self, folders: Sequence[str] | None = None) -> None:  # noqa: B027 (objects have none)
        """Remove folders that hold nothing, and the output's own when it was not there before.

        Args:
            folders: the ones that may go; all when None.
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


def local_path(uri: str) -> str | None:
    """The path behind a plain path or ``file://`` URI; None for everything remote."""
    for prefix in ("file://", "local://"):
        if uri.startswith(prefix):
            return uri.removeprefix(prefix) or "/"
    return None if "://" in uri else uri


def open_filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a remote URI, and the URI's path in it.

    Raises:
        SpecError: an unknown scheme, a missing package, or a password or signature in the URI.
    """
    from fsspec.core import url_to_fs

    parts = urlsplit(uri)
    if parts.password is not None:
        raise SpecError(
            f"{shown_uri(uri)}: leave the password out of the address; give it through the "
            "environment, it would be recorded otherwise"
        )
    if parts.scheme in ("http", "https") and parts.query:
        raise SpecError(
            f"{shown_uri(uri)}: signed or parametrised links are not supported; use an address "
            "without a query"
        )
    try:
        filesystem, path = url_to_fs(uri, use_listings_cache=False)
    except ImportError as error:
        raise SpecError(f"{shown_uri(uri)}: {error}") from error
    except ValueError as error:
        raise SpecError(f"{shown_uri(uri)} is no address that fsspec knows: {error}") from error
    return filesystem, str(path)


def absolute_path(path: str) -> str:
    """A local path made absolute and normalised; links stay, so that names stay the user's."""
    return os.path.abspath(path)  # noqa: PTH100 (Path.resolve would follow links)


def shown_uri(uri: str) -> str:
    r"""A URI without user name, password and query; plain paths come back as they are.

    Bytes of a local name that are no UTF-8 are shown as ``\xNN``.
    """
    readable = os.fsencode(uri).decode("utf-8", "backslashreplace")
    if "://" not in readable:
        return readable
    parts = urlsplit(readable)
    host = parts.netloc.rpartition("@")[2] if ":" in parts.netloc else parts.netloc
    query = parts.query if parts.scheme not in ("http", "https") else ""
    return urlunsplit((parts.scheme, host, parts.path, query, parts.fragment))


@contextlib.contextmanager
def storage_errors(doing: str, where: str) -> Iterator[None]:
    """Turn whatever a file system raises into this project's errors, in one line.

    Args:
        doing: what was tried, as in ``cannot write``.
        where: the place, fit to be shown.

    Raises:
        FileNotFoundError: passed on, for the caller to judge.
        FatalError: trying again cannot help.
        TransientError: everything else.
    """
    try:
        yield
    except (RestyleError, FileNotFoundError):
        raise
    except Exception as error:
        raise _explained(error, doing, where) from error


def _explained(error: Exception, doing: str, where: str) -> RestyleError:
    code = error.errno if isinstance(error, OSError) else None
    if code in _FATAL_ERRNO:
        return FatalError(f"{doing} {where}: {_FATAL_ERRNO[code]}")
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, PermissionError) or type(error).__name__ in _FATAL_NAMES:
        return FatalError(f"{doing} {where}: {reason}")
    return TransientError(f"{doing} {where}: {reason}")


class _LocalStorage(Storage):
    def __init__(self, root: Path) -> None:
        self._root = root
        self._was_there = root.exists()
        self.uri = shown_uri(str(root))

    def write(self, name: str, data: bytes) -> None:
        target = self._root / name
        with storage_errors("cannot write", self.shown(name)):
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
            return (self._root / name).read_bytes()

    def sizes(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with storage_errors("cannot list", self.shown(folder)):
            try:
                entries = sorted(os.scandir(self._root / folder), key=lambda entry: entry.name)
            except FileNotFoundError:
                return {}
            for entry in entries:
                # A file may be removed by somebody else while we look.
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file() and not entry.name.startswith("."):
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        found[name] = entry.stat().st_size
        return found

    def delete(self, name: str) -> None:
        with storage_errors("cannot delete", self.shown(name)):
            (self._root / name).unlink(missing_ok=True)

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
            for leftover in (self._root / folder).glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def prune(self, folders: Sequence[str] | None = None) -> None:
        if folders is None:
            found = sorted(self._root.glob("*/")) if self._root.is_dir() else []
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
        with storage_errors("cannot write", self.shown(name)):
            try:
                self._filesystem.pipe_file(f"{self._root}/{name}", data)
            except FileNotFoundError as error:
                raise FatalError(f"cannot write {self.shown(name)}: {error}") from error

    def read(self, name: str) -> bytes:
        with storage_errors("cannot read", self.shown(name)):
            return bytes(self._filesystem.cat_file(f"{self._root}/{name}"))

    def read_many(self, names: list[str]) -> list[bytes]:
        with storage_errors("cannot read", self.uri):
            # One call, so that asynchronous file systems fetch many at a time; not cat, which
            # would take the names for patterns.
            paths = [f"{self._root}/{name}" for name in names]
            found = self._filesystem.cat_ranges(paths, None, None, on_error="raise")
            return [bytes(data) for data in found]

    def sizes(self, folder: str) -> dict[str, int]:
        with storage_errors("cannot list", self.shown(folder)):
            prefix = f"{self._root}/{folder}".rstrip("/")
            try:
                entries = self._filesystem.ls(prefix, detail=True)
            except FileNotFoundError:
                return {}
            return {
                (f"{folder}/" if folder else "") + name: int(entry["size"] or 0)
                for entry in sorted(entries, key=lambda entry: str(entry["name"]))
                if entry["type"] == "file"
                and (name := str(entry["name"]).rpartition("/")[2])
                and not name.startswith(".")
            }

    def delete(self, name: str) -> None:
        with (
            storage_errors("cannot delete", self.shown(name)),
            contextlib.suppress(FileNotFoundError),
        ):
            self._filesystem.rm_file(f"{self._root}/{name}")

    def check_writable(self) -> None:
        # An object store tells only on a PUT, so one is made and taken back.
        probe = f".restyle-probe-{secrets.token_hex(4)}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except TransientError as error:
            raise FatalError(str(error)) from error


def _replace(target: Path, data: bytes) -> None:
    # Hidden, so that readers of the folder skip it; not .parquet, so that globs do.
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
