"""Random access to the bytes of a local or remote file."""

from __future__ import annotations

import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from restyle.core.errors import FatalError, SpecError, reason_of
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.remote_files import size_and_version
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.sources.web.client import WEB, Web
from restyle.pipeline.sources.web.private_hosts import UrlPolicy, check_host
from restyle.pipeline.storage.filesystem import open_filesystem, shown_uri, storage_errors
from restyle.pipeline.storage.retries import retrying

T = TypeVar("T")

READ_AHEAD = 1 << 20
"""Bytes per request to a remote store: about as many as it sends during one latency."""

_LOCAL_READ_AHEAD = 1 << 14


class Stores:
    """File systems of the inputs, each opened once.

    Args:
        policy: which hosts addresses may lead to.

    Attributes:
        web: reader of files on web servers.
    """

    def __init__(self, policy: UrlPolicy | None = None) -> None:
        self._policy = policy or UrlPolicy()
        self._opened: dict[str, Any] = {}
        self.web = Web(self._policy)

    def of(self, uri: str) -> Any:
        """Return the fsspec file system of a remote URI.

        Raises:
            SpecError: the scheme is unknown, a package is missing, or the address is invalid.
        """
        scheme, _, rest = uri.partition("://")
        # An address may contain an account, except on the web, where one file system serves all
        # hosts.
        key = scheme if scheme in ("http", "https") else f"{scheme}://{rest.partition('/')[0]}"
        if key not in self._opened:
            try:
                if scheme not in ("http", "https"):
                    check_host(uri, self._policy)
                self._opened[key] = open_filesystem(uri)[0]
            except FatalError:
                raise
            except Exception as error:
                # A file system that needs more than an address may raise any exception.
                reason = reason_of(error)
                raise SpecError(f"{shown_uri(uri)} cannot be opened: {reason}") from error
        return self._opened[key]


class RangedFile(ABC):
    """An open file with random access.

    Attributes:
        size: size in bytes.
        version: ETag or modification time, as in listings; empty if unknown.
        read_ahead: recommended number of bytes per read.
    """

    size: int
    version: str
    read_ahead: int

    @abstractmethod
    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from an offset; fewer only at the end of the file.

        Raises:
            OSError: the bytes cannot be read.
            TransientError: the store still fails after all retries.
            FatalError: credentials are missing or refused.
        """

    def close(self) -> None:  # noqa: B027 (remote files hold nothing open)
        """Close the file."""

    def __enter__(self) -> RangedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_ranged(file: SourceImage, stores: Stores) -> RangedFile:
    """Open the file that contains an input.

    Raises:
        OSError: the file is missing, unreadable, or not a regular file.
        TransientError: the store still fails after all retries.
        FatalError: credentials are missing or refused.
    """
    if file.uri.startswith(FILE):
        path = os.fsdecode(file.uri.removeprefix(FILE))
        # O_NONBLOCK, because opening a pipe would block until a writer opens it.
        return LocalFile(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    if file.uri.startswith(WEB):
        return _WebFile(file, stores.web)
    return _RemoteFile(file, stores)


class Stream(io.RawIOBase):
    """A ranged file as a raw, seekable Python stream without a buffer.

    Args:
        file: the file; closed with the stream.
    """

    def __init__(self, file: RangedFile) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes from the start of the file."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position and return it, as ``io.IOBase.seek``."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer from the position; return the number of bytes, 0 at the end."""
        data = self._file.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Close the stream and its file."""
        if not self.closed:
            self._file.close()
        super().close()


class ReadAhead:
    """Buffer for many small reads, which reads the file in blocks.

    Args:
        file: the file, read mostly forward.
    """

    def __init__(self, file: RangedFile) -> None:
        self._file = file
        self._start = 0
        self._block = b""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from an offset; fewer only at the end of the file."""
        within = offset - self._start
        if not 0 <= within <= within + length <= len(self._block):
            self._start, within = offset, 0
            self._block = self._file.read_at(offset, max(length, self._file.read_ahead))
        return self._block[within : within + length]


def asked(call: Callable[[], T], where: str) -> T:
    """Return the result of a read from a store, retried while the store fails temporarily.

    Raises:
        OSError: this file cannot be read; others may be readable.
        TransientError: the store still fails after all retries.
        FatalError: credentials are missing or refused.
    """

    def attempt() -> T:
        with storage_errors("cannot read", where):
            try:
                return call()
            except PermissionError as error:
                # Access may be denied for one object but not for others.
                raise FileNotFoundError(str(error)) from error

    return retrying(attempt)


class LocalFile(RangedFile):
    """A local file.

    Args:
        descriptor: file descriptor, open for reading; closed with this object.

    Raises:
        OSError: the descriptor is not of a regular file.

    Attributes:
        descriptor: file descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError("it is no regular file")
        self.size = status.st_size
        self.version = str(status.st_mtime_ns)
        self.read_ahead = _LOCAL_READ_AHEAD

    def read_at(self, offset: int, length: int) -> bytes:
        """As :meth:`RangedFile.read_at`."""
        data = os.pread(self.descriptor, min(length, max(self.size - offset, 0)), offset)
        while data and len(data) < min(length, self.size - offset):
            # Linux reads at most 2 GiB at a time.
            more = os.pread(self.descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class _RemoteFile(RangedFile):
    def __init__(self, file: SourceImage, stores: Stores) -> None:
        self._uri = file.uri.decode()
        self._shown = file.source
        self._filesystem = stores.of(self._uri)
        self.size, self.version = file.size, file.version
        if self.size < 0 or not self.version:
            info = asked(lambda: self._filesystem.info(self._uri), self._shown)
            self.size, self.version = size_and_version(info)
        if self.size < 0:
            raise OSError("the store does not say how large it is")
        self.read_ahead = READ_AHEAD

    def read_at(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        call = self._filesystem.cat_file
        return bytes(asked(lambda: call(self._uri, start=offset, end=end), self._shown))


class _WebFile(RangedFile):
    def __init__(self, file: SourceImage, web: Web) -> None:
        self._url = file.uri.decode()
        self._web = web
        self.size, self.version = file.size, file.version
        if self.size < 0 or not self.version:
            self.size, etag = web.size_and_etag(self._url)
            self.version = etag.strip('"')
        if self.size < 0:
            raise OSError("the server does not say how large it is")
        self.read_ahead = READ_AHEAD

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        return self._web.read(self._url, offset, length) if length > 0 else b""
