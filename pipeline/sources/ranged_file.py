"""A file, local or remote, any part of which can be read."""

from __future__ import annotations

import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.remote_files import size_and_version
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.sources.web.client import WEB, Web
from restyle.pipeline.sources.web.private_hosts import UrlPolicy, check_host
from restyle.pipeline.storage.filesystem import open_filesystem, shown_uri, storage_errors
from restyle.pipeline.storage.retries import retrying

T = TypeVar("T")

READ_AHEAD = 1 << 20
"""Bytes that are asked of a remote store at a time: about what it sends in the time of an answer"""

_LOCAL_READ_AHEAD = 1 << 14


class Stores:
    """The file systems that inputs lie on, each opened once.

    Args:
        policy: where addresses may lead.

    Attributes:
        web: reads what lies on web servers.
    """

    def __init__(self, policy: UrlPolicy | None = None) -> None:
        self._policy = policy or UrlPolicy()
        self._opened: dict[str, Any] = {}
        self.web = Web(self._policy)

    def of(self, uri: str) -> Any:
        """The fsspec file system of a remote URI.

        Raises:
            SpecError: an unknown scheme, a package is missing, or the address makes no sense.
        """
        scheme, _, rest = uri.partition("://")
        # An account may be part of the address, except on the web, where hosts are many.
        key = scheme if scheme in ("http", "https") else f"{scheme}://{rest.partition('/')[0]}"
        if key not in self._opened:
            try:
                if scheme not in ("http", "https"):
                    check_host(uri, self._policy)
                self._opened[key] = open_filesystem(uri)[0]
            except FatalError:
                raise
            except Exception as error:
                # Whatever a package raises that wants to be told more than an address.
                reason = " ".join(str(error).split()) or type(error).__name__
                raise SpecError(f"{shown_uri(uri)} cannot be opened: {reason}") from error
        return self._opened[key]


class RangedFile(ABC):
    """An open file.

    Attributes:
        size: in bytes.
        version: etag or time of the last change, as listings give it; empty when unknown.
        read_ahead: bytes that are worth reading at a time.
    """

    size: int
    version: str
    read_ahead: int

    @abstractmethod
    def read_at(self, offset: int, length: int) -> bytes:
        """So many bytes from an offset on; fewer only where the file ends.

        Raises:
            OSError: they cannot be read.
            TransientError: the store did not answer properly, however often it was asked.
            FatalError: no credentials.
        """

    def close(self) -> None:  # noqa: B027 (remote files hold nothing open)
        """Let go of the file."""

    def __enter__(self) -> RangedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_ranged(file: SourceImage, stores: Stores) -> RangedFile:
    """Open the file that holds an input.

    Raises:
        OSError: it is not there, or not to be read, or no regular file.
        TransientError: the store did not answer properly, however often it was asked.
        FatalError: no credentials.
    """
    if file.uri.startswith(FILE):
        path = os.fsdecode(file.uri.removeprefix(FILE))
        # A pipe would wait for a writer otherwise.
        return LocalFile(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    if file.uri.startswith(WEB):
        return _WebFile(file, stores.web)
    return _RemoteFile(file, stores)


class Stream(io.RawIOBase):
    """A ranged file as Python's readers of files want it: with a position, and buffered outside.

    Args:
        file: closed with the stream.
    """

    def __init__(self, file: RangedFile) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from the start of the file."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on; the number of bytes, 0 at the end."""
        data = self._file.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file too."""
        if not self.closed:
            self._file.close()
        super().close()


class ReadAhead:
    """Small pieces of a file, asked for in blocks.

    Args:
        file: to be read, mostly forward.
    """

    def __init__(self, file: RangedFile) -> None:
        self._file = file
        self._start = 0
        self._block = b""

    def read_at(self, offset: int, length: int) -> bytes:
        """So many bytes from an offset on; fewer only where the file ends."""
        within = offset - self._start
        if not 0 <= within <= within + length <= len(self._block):
            self._start, within = offset, 0
            self._block = self._file.read_at(offset, max(length, self._file.read_ahead))
        return self._block[within : within + length]


def asked(call: Callable[[], T], where: str) -> T:
    """What a store answers to a reading call, asked again while it fails for the moment.

    Raises:
        OSError: this file cannot be read, and others may be.
        TransientError: the store did not answer properly, however often it was asked.
        FatalError: no credentials.
    """

    def attempt() -> T:
        with storage_errors("cannot read", where):
            try:
                return call()
            except PermissionError as error:
                # One object may be closed to us while the others are not.
                raise FileNotFoundError(str(error)) from error

    return retrying(attempt)


class LocalFile(RangedFile):
    """A file of this machine.

    Args:
        descriptor: it, open for reading; closed with this.

    Raises:
        OSError: it is no regular file.

    Attributes:
        descriptor: as above.
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
