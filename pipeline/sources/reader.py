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
from restyle.pipeline.sources.input_errors import input_errors
from restyle.pipeline.sources.local_files import FILE
from restyle.pipeline.sources.ranged_file import Stores, asked, open_ranged
from restyle.pipeline.sources.remote_files import full_uri
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.addresses import storage_timeout
from restyle.pipeline.storage.filesystem import local_path

MAX_FILE_BYTES = 512 * 2**20
"""Larger files are rejected unread: no photograph is that large."""

_WEB = (b"http://", b"https://")
_OPEN_SHARDS = 2
_VERSIONS = 1024
# Answers of a web server that another try may change.
_PASSING_STATUS = frozenset({408, 425, 429})


Sized = Callable[[int], None]


class SourceReader:
    """Reads the bytes of inputs. Several threads may use one.

    Args:
        source: ``INPUT`` as the user gave it.

    Raises:
        SpecError: its store cannot be used at all.
    """

    def __init__(self, source: str) -> None:
        self._stores = Stores()
        # What is wrong with it would be taken for the fault of whatever is read first.
        storage_timeout()
        self._own = b""
        if local_path(source) is None:
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
        with input_errors(image, is_own=is_own):
            return self._read(image, sized)

    def close(self) -> None:
        """End the process that reads shards."""
        with self._guard:
            self._open.clear()
            self._shards.end()

    def _read(self, image: SourceImage, sized: Sized) -> bytes:
        kind, _, place = image.place.partition(":")
        if kind == "row":
            return self._row(image, place, sized)
        if kind == "tar":
            return self._member(image, int(place), sized)
        return self._file(image, sized)

    def _file(self, image: SourceImage, sized: Sized) -> bytes:
        if image.uri.startswith(FILE):
            with open_ranged(image, self._stores) as file:
                _check_size(file.size)
                sized(file.size)
                return file.read_at(0, file.size)
        uri = image.uri.decode()
        filesystem = self._stores.of(uri)
        if image.uri.startswith(_WEB):
            return self._web_page(filesystem, uri, image)
        if image.size >= 0:
            return bytes(asked(lambda: filesystem.cat_file(uri), image.source))
        # A list does not say how large a file is: never more than would be used is fetched.
        return bytes(asked(lambda: _bounded(filesystem, uri), image.source))

    def _web_page(self, filesystem: Any, uri: str, image: SourceImage) -> bytes:
        """A file from the web, where one host that is down must not hold up all others."""
        for is_last in (False, True):
            try:
                data = bytes(_from_web(filesystem, uri))
            except OSError as error:
                if is_last or getattr(error, "errno", None) == errno.ENOENT:
                    raise
            else:
                _check_size(len(data))
                return data
        raise AssertionError(f"{image.source} was neither read nor refused")

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

    def _row(self, image: SourceImage, place: str, sized: Sized) -> bytes:
        group, row, column = place.split(":", 2)
        with self._guard:
            shard = self._shard(image)
            data = self._shards.row(shard, int(group), int(row), column, MAX_FILE_BYTES, sized)
        if data is None:
            raise RejectError(RejectReason.EMPTY, "the row holds no image")
        return data

    def _shard(self, image: SourceImage) -> ShardKey:
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
        self._shards.open(shard, file)
        self._open[shard] = None
        while len(self._open) > _OPEN_SHARDS:
            self._close(next(iter(self._open)))
        return shard

    def _close(self, shard: ShardKey) -> None:
        del self._open[shard]
        self._shards.close(shard)


def _bounded(filesystem: Any, uri: str) -> Any:
    try:
        data = filesystem.cat_file(uri, start=0, end=MAX_FILE_BYTES + 1)
    except OSError as error:
        # No range of an empty file can be asked for.
        if error.errno != errno.EINVAL or filesystem.info(uri)["size"]:
            raise
        return b""
    _check_size(len(data))
    return data


def _from_web(filesystem: Any, uri: str) -> Any:
    """What a web server answers.

    Raises:
        OSError: nothing; ``ENOENT`` where another try would not change that.
    """
    try:
        return filesystem.cat_file(uri, start=0, end=MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise OSError(errno.ENOENT, "the server has no such file") from error
    except Exception as error:
        status = getattr(error, "status", 0)
        if 400 <= status < 500 and status not in _PASSING_STATUS:
            raise OSError(errno.ENOENT, f"the server refuses it (status {status})") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(reason) from error


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
