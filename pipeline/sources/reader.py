"""Reads the bytes of inputs: whole files, members of archives, rows of Parquet files."""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from restyle.core.errors import RejectError, RejectReason
from restyle.pipeline.sources.formats.shard_process import ShardProcess
from restyle.pipeline.sources.formats.shard_service import ShardKey
from restyle.pipeline.sources.formats.source_format import SourceFormat, format_of
from restyle.pipeline.sources.input_errors import input_errors
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.ranged_file import Stores, asked, open_ranged
from restyle.pipeline.sources.remote_files import full_uri
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.sources.web.client import WEB
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.addresses import storage_timeout
from restyle.pipeline.storage.filesystem import local_path

MAX_FILE_BYTES = 512 * 2**20
"""Larger files are rejected unread: no photograph is that large."""

_LARGE = 16 * 2**20
_OPEN_SHARDS = 2
_VERSIONS = 1024


Sized = Callable[[int], None]


class SourceReader:
    """Reads the bytes of inputs. Several threads may use one.

    Args:
        source: ``INPUT``, for the connection to its store.
        policy: where addresses may lead; by default not to this machine or its network.

    Raises:
        SpecError: its store cannot be used at all.
    """

    def __init__(self, source: str, policy: UrlPolicy | None = None) -> None:
        self._stores = Stores(policy)
        # What is wrong with it would be taken for the fault of whatever is read first.
        storage_timeout()
        self._own = b""
        if local_path(source) is None:
            if not source.startswith(("http://", "https://")):
                self._stores.of(source)
            scheme, _, rest = full_uri(source).partition("://")
            self._own = f"{scheme}://{rest.partition('/')[0]}/".encode("utf-8", "surrogateescape")
        self._shards = ShardProcess()
        self._open: OrderedDict[ShardKey, None] = OrderedDict()
        self._versions: dict[tuple[bytes, str], str] = {}
        self._guard = threading.Lock()

    def read(self, image: SourceImage, sized: Sized = lambda _size: None) -> bytes:
        """The bytes of one input.

        Args:
            image: the input.
            sized: is told a number of bytes before so many, or more than the last number, are held.

        Raises:
            OSError, RejectError, FatalError, TransientError: as :func:`input_errors`.
        """
        is_own = bool(self._own) and image.uri.startswith(self._own)
        # A format that is not installed is the job's fault.
        kind = format_of(image)
        with input_errors(image, is_own=is_own):
            return self._read(image, kind, sized)

    def open(self, image: SourceImage) -> None:
        """See that a file can be opened, without reading it.

        Args:
            image: a file of its own.

        Raises:
            OSError, RejectError, FatalError, TransientError: as :func:`input_errors`.
        """
        is_own = bool(self._own) and image.uri.startswith(self._own)
        with input_errors(image, is_own=is_own):
            uri = image.uri.decode()
            if image.uri.startswith(FILE):
                open_ranged(image, self._stores).close()
            elif image.uri.startswith(WEB):
                self._stores.web.read(uri, 0, 1)
            else:
                filesystem = self._stores.of(uri)
                asked(lambda: _first(filesystem, uri, 1), image.source)

    def close(self) -> None:
        """End the process that reads shards."""
        with self._guard:
            self._open.clear()
            self._shards.end()

    def _read(self, image: SourceImage, kind: SourceFormat | None, sized: Sized) -> bytes:
        if kind is None:
            return self._file(image, sized)
        place = image.place.partition(":")[2]
        if kind.is_contiguous:
            return self._member(image, int(place), sized)
        return self._unpacked(image, kind, place, sized)

    def _file(self, image: SourceImage, sized: Sized) -> bytes:
        if image.uri.startswith(FILE):
            with open_ranged(image, self._stores) as file:
                _check_size(file.size)
                sized(file.size)
                return file.read_at(0, file.size)
        uri = image.uri.decode()
        if image.uri.startswith(WEB):
            data = self._stores.web.read(uri, 0, MAX_FILE_BYTES + 1, sized)
        else:
            data = self._remote(uri, image, sized)
        _check_size(len(data))
        return data

    def _remote(self, uri: str, image: SourceImage, sized: Sized) -> bytes:
        filesystem = self._stores.of(uri)
        if image.size >= 0:
            # No more than was listed, and one byte to tell whether it has grown.
            _check_size(image.size)
            sized(image.size)
            data = bytes(asked(lambda: _first(filesystem, uri, image.size + 1), image.source))
            if len(data) > image.size:
                raise OSError("it has grown since it was planned; plan again")
            return data
        # A list does not say how large a file is: never more than would be used is fetched, and
        # what is large is fetched when there is room.
        data = bytes(asked(lambda: _first(filesystem, uri, _LARGE + 1), image.source))
        if len(data) > _LARGE:
            sized(MAX_FILE_BYTES)
            data = bytes(asked(lambda: _first(filesystem, uri, MAX_FILE_BYTES + 1), image.source))
        return data

    def _member(self, image: SourceImage, offset: int, sized: Sized) -> bytes:
        _check_size(image.size)
        sized(image.size)
        whole = replace(image, size=-1, version="")
        # A local archive is opened anew for each member, which costs next to nothing and tells
        # whether it is still the one that was planned. A remote one is asked once.
        if not image.uri.startswith(FILE):
            version = self._version(whole, image.version)
            whole = replace(whole, size=offset + image.size, version=version)
        with open_ranged(whole, self._stores) as file:
            _check_version(image, file.version)
            data = file.read_at(offset, image.size)
        if len(data) < image.size:
            raise OSError("its archive ends before it")
        return data

    def _version(self, whole: SourceImage, planned: str) -> str:
        """The version of a remote container, asked for once for each version that was planned."""
        key = whole.uri, planned
        if key not in self._versions:
            if len(self._versions) >= _VERSIONS:
                self._versions.clear()
            self._versions[key] = open_ranged(whole, self._stores).version
        return self._versions[key]

    def _unpacked(self, image: SourceImage, kind: SourceFormat, place: str, sized: Sized) -> bytes:
        with self._guard:
            shard = self._shard(image, kind.name)
            data = self._shards.read(shard, place, MAX_FILE_BYTES, sized)
        if data is None:
            raise RejectError(RejectReason.EMPTY, f"the {kind.prefix or 'member'} holds no image")
        return data

    def _shard(self, image: SourceImage, kind: str) -> ShardKey:
        for shard in self._open:
            if shard[0] == image.uri and image.version in ("", shard[1]):
                self._open.move_to_end(shard)
                return shard
        # That of a planning before is of no use any more.
        for shard in [each for each in self._open if each[0] == image.uri]:
            self._close(shard)
        file = open_ranged(replace(image, size=-1, version=""), self._stores)
        try:
            _check_version(image, file.version)
        except OSError:
            file.close()
            raise
        shard = (image.uri, file.version)
        self._shards.open(shard, file, kind)
        self._open[shard] = None
        while len(self._open) > _OPEN_SHARDS:
            self._close(next(iter(self._open)))
        return shard

    def _close(self, shard: ShardKey) -> None:
        del self._open[shard]
        self._shards.close(shard)


def _first(filesystem: Any, uri: str, length: int) -> Any:
    """So many bytes of a remote file, or all that there are."""
    try:
        return filesystem.cat_file(uri, start=0, end=length)
    except OSError as error:
        # No range of an empty file can be asked for.
        if error.errno != errno.EINVAL or filesystem.info(uri)["size"]:
            raise
        return b""


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise RejectError(
            RejectReason.TOO_LARGE,
            f"more than {MAX_FILE_BYTES:,} bytes, which is the limit",
        )


def _check_version(image: SourceImage, now: str) -> None:
    """A place holds for the file that was planned; another one has something else there."""
    if image.version and now and image.version != now:
        raise OSError("the file that holds it has changed since it was planned; plan again")
