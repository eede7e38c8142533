"""Readers for an output's Parquet files: parts of a file, or a whole file in memory.

Every read sets ``use_threads=False`` and disables read-ahead. Arrow's own threads release their
buffers shortly after the call has returned. If such a buffer belongs to a Python object (even the
``bytes`` behind a ``BufferReader``) and the interpreter is already shutting down, the process
aborts; on a busy machine this happened about once in a hundred runs.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import FatalError
from restyle.pipeline.ledger.entries import WrittenFile
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import (
    local_file,
    open_filesystem,
    storage_errors,
)
from restyle.pipeline.storage.retries import retrying

T = TypeVar("T")

_BUFFER = 1 << 20
BATCH_ROWS = 16
"""Rows of image bytes per batch: a few megabytes even at 1024 x 1024."""


class HasFiles(Protocol):
    """A ledger entry with files: of a single unit or of a pack."""

    @property
    def files(self) -> tuple[WrittenFile, ...]:
        """Files of the entry, at most one per dataset."""

    @property
    def faces(self) -> int:
        """Number of rows in the first dataset, ``latents`` for an inversion."""


def parquet_of(data: bytes, *, page_checksums: bool = False) -> pq.ParquetFile:
    """Open a Parquet file that is in memory.

    Args:
        data: the bytes of the whole file.
        page_checksums: verify page checksums; the file must have been written with them.

    Raises:
        pa.ArrowException: the data is not a Parquet file.
    """
    return pq.ParquetFile(
        pa.BufferReader(data), pre_buffer=False, page_checksum_verification=page_checksums
    )


@contextlib.contextmanager
def open_parquet(out: str, name: str) -> Iterator[pq.ParquetFile]:
    """Open a file of an output to read parts of it.

    Args:
        out: the output, a path or any fsspec URI.
        name: path relative to the output, as in the ledger.

    Raises:
        FatalError: the file is missing or is not a Parquet file.
    """
    where = f"{out.rstrip('/')}/{name}"
    with storage_errors("cannot read", where), contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_open(out, name))
            # Without a buffer, Arrow reads a whole column chunk of images at once.
            yield stack.enter_context(pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False))
        except (pa.ArrowInvalid, FileNotFoundError) as error:
            raise FatalError(
                f"cannot read {where}: {str(error).splitlines()[0]}; {DAMAGE}"
            ) from error


def read_range(out: str, name: str, start: int, size: int) -> bytes:
    """Read a byte range of a remote file in one request, retried when the store fails.

    Args:
        out: the output, any fsspec URI.
        name: path relative to the output.
        start: offset of the first byte.
        size: number of bytes.

    Raises:
        FatalError: the file is missing, or permission is denied.
    """
    filesystem, root = open_filesystem(out)
    where = f"{out.rstrip('/')}/{name}"

    def fetch() -> bytes:
        with storage_errors("cannot read", where):
            path = f"{root.rstrip('/')}/{name}"
            return bytes(filesystem.cat_file(path, start=start, end=start + size))

    try:
        return retrying(fetch)
    except FileNotFoundError as error:
        raise FatalError(f"{where} is missing; {DAMAGE}") from error


def file_of(owner: HasFiles, dataset: str) -> tuple[str, int] | None:
    """Return name and row count of an entry's file in a dataset; None if it has no rows there."""
    for file in owner.files:
        if file.name.startswith(f"{dataset}/") and file.rows:
            return file.name, file.rows
    return None


def columns_of(parquet: pq.ParquetFile, wanted: Sequence[str]) -> list[str]:
    """Return the wanted columns that a file has, in the order of ``wanted``."""
    present = set(parquet.schema_arrow.names)
    return [name for name in wanted if name in present]


def spread(items: Sequence[T], most: int) -> list[T]:
    """Select at most ``most`` items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[(2 * index + 1) * len(items) // (2 * most)] for index in range(most)]


def _open(out: str, name: str) -> Any:
    path = local_file(out, name)
    if path is not None:
        return pa.OSFile(os.fsencode(path), "rb")
    filesystem, root = open_filesystem(out)
    return open_remote(filesystem, f"{root.rstrip('/')}/{name}", name)


def open_remote(filesystem: Any, path: str, shown: str) -> pa.NativeFile:
    """Open a remote object for Arrow; each range read is retried when the store fails.

    Args:
        filesystem: an fsspec filesystem.
        path: path of the object in the filesystem.
        shown: name of the object in error messages.
    """
    return pa.PythonFile(_RemoteFile(filesystem, path, shown), mode="r")


class _RemoteFile(io.RawIOBase):
    """Remote object read by byte ranges, each retried on a transient failure of the store."""

    def __init__(self, filesystem: Any, path: str, shown: str) -> None:
        self._filesystem = filesystem
        self._path = path
        self._shown = shown
        self._at = 0
        self._size = retrying(self._ask_size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        if end <= self._at:
            return b""
        data = retrying(lambda: self._fetch(self._at, end))
        self._at = end
        return data

    def _fetch(self, start: int, end: int) -> bytes:
        with storage_errors("cannot read", self._shown):
            return bytes(self._filesystem.cat_file(self._path, start=start, end=end))

    def _ask_size(self) -> int:
        with storage_errors("cannot read", self._shown):
            return int(self._filesystem.size(self._path))
