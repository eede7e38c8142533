"""Read the bytes of inputs: whole files, members of archives, rows of Parquet files."""

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
"""Maximum file size in bytes; larger files are rejected unread, as no photograph is that large."""

_LARGE = 16 * 2**20
_OPEN_SHARDS = 2
_VERSIONS = 1024


Sized = Callable[[int], None]


class SourceReader:
    """Reader of the bytes of inputs; thread-safe.

    Args:
        source: ``INPUT``, used to connect to its store.
        policy: which hosts addresses may lead to; by default only public ones.

    Raises:
        SpecError: the store of ``INPUT`` cannot be used.
    """

    def __init__(self, source: str, policy: UrlPolicy | None = None) -> None:
        self._stores = Stores(policy)
        # Check the setting now: later its error would be attributed to the first input that is
        # read.
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
        """Return the bytes of one input.

        Args:
            image: the input.
            sized: callback that receives the number of bytes about to be held, before memory use
                grows to it.

        Raises:
            OSError, RejectError, FatalError, TransientError: as :func:`input_errors`.
        """
        is_own = bool(self._own) and image.uri.startswith(self._own)
        # Outside input_errors: a format that is not installed is the job's fault, not the input's.
        kind = format_of(image)
        with input_errors(image, is_own=is_own):
            return self._read(image, kind, sized)

    def open(self, image: SourceImage) -> None:
        """Check that a file can be opened, without reading its contents.

        Args:
            image: an input that is a whole file.

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
        """Stop the child process that reads shards."""
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
            # Read one byte more than the listed size, to detect a file that has grown.
            _check_size(image.size)
            sized(image.size)
            data = bytes(asked(lambda: _first(filesystem, uri, image.size + 1), image.source))
            if len(data) > image.size:
                raise OSError("it has grown since it was planned; plan again")
            return data
        # The size of a list entry is unknown: try a bounded read first, and read a large file only
        # after memory has been reserved.
        data = bytes(asked(lambda: _first(filesystem, uri, _LARGE + 1), image.source))
        if len(data) > _LARGE:
            sized(MAX_FILE_BYTES)
            data = bytes(asked(lambda: _first(filesystem, uri, MAX_FILE_BYTES + 1), image.source))
        return data

    def _member(self, image: SourceImage, offset: int, sized: Sized) -> bytes:
        _check_size(image.size)
        sized(image.size)
        whole = replace(image, size=-1, version="")
        # A local archive is opened again for each member: this is cheap and detects a changed
        # archive. The version of a remote archive is requested once.
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
        """Return the version of a remote container, requested once for each planned version."""
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
        # Close open shards of the same file with another version, which are outdated.
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
    """Return the first ``length`` bytes of a remote file, or all of a shorter one."""
    try:
        return filesystem.cat_file(uri, start=0, end=length)
    except OSError as error:
        # A range request on an empty file fails.
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
    """Check that a file is unchanged since planning; locations are valid for one version only."""
    if image.version and now and image.version != now:
        raise OSError("the file that holds it has changed since it was planned; plan again")
