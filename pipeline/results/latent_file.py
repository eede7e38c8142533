"""Reading of one file of latents by row groups, in the fastest way."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import FatalError, reason_of
from restyle.core.files import open_file
from restyle.pipeline.ledger.datasets import latent_shape
from restyle.pipeline.ledger.parquet_files import open_parquet, read_range
from restyle.pipeline.results.latent_pages import (
    ByteRange,
    FloatArray,
    column_range,
    decode,
    find_pages,
)
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import local_file, storage_errors

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LatentFile:
    """An open file of latents.

    Attributes:
        out: the output, a path or any fsspec URI.
        name: of the file, relative to it.
        parquet: the open file.
        shape: (n_styles, style_dim).
    """

    out: str
    name: str
    parquet: pq.ParquetFile
    shape: tuple[int, int]

    def groups(self) -> Iterator[tuple[int, int, int]]:
        """Yield the index, first row and number of rows of each row group."""
        start = 0
        for group in range(self.parquet.num_row_groups):
            rows = self.parquet.metadata.row_group(group).num_rows
            yield group, start, rows
            start += rows

    def read_into(self, rows: IntArray, target: FloatArray) -> None:
        """Read latents from any rows of the file.

        Args:
            rows: ascending indices.
            target: [len(rows), n_styles * style_dim], contiguous; receives the latents.

        Raises:
            FatalError: the file is damaged.
        """
        for group, start, count in self.groups():
            low, high = np.searchsorted(rows, (start, start + count))
            if low < high:
                self.read_group(group, rows[low:high] - start, target[low:high])

    def read_group(self, group: int, rows: IntArray, target: FloatArray) -> IntArray:
        """As :meth:`read_into`, with indices in one row group.

        Returns:
            [len(rows)] offset of each latent's bytes in the file, which are float32 of the machine;
            0 of those that are encoded otherwise or not in one piece.
        """
        where = f"{self.out.rstrip('/')}/{self.name}"
        with self._bytes(group) as file:
            try:
                pages = find_pages(self.parquet, group, file)
                if pages is None:
                    target[:] = decode(self.parquet, group)[rows]
                    return np.zeros(len(rows), np.int64)
                for first, last in _runs(rows):
                    pages.read_into(file, int(rows[first]), target[first:last])
                return pages.offsets(rows)
            except (pa.ArrowException, ValueError, IndexError, EOFError) as error:
                raise FatalError(f"{where} is damaged: {reason_of(error)}; {DAMAGE}") from error

    @contextlib.contextmanager
    def _bytes(self, group: int) -> Iterator[ByteRange]:
        path = local_file(self.out, self.name)
        if path is None:
            # The whole column at once, because each range is a request.
            start, size = column_range(self.parquet, group)
            yield _Fetched(start, read_range(self.out, self.name, start, size))
            return
        with storage_errors("cannot read", f"{self.out.rstrip('/')}/{self.name}"):
            file = open_file(path)
        with file:
            yield _Local(file.fileno())


@contextlib.contextmanager
def open_latents(out: str, name: str) -> Iterator[LatentFile]:
    """Open a file of latents.

    Args:
        out: the output, a path or any fsspec URI.
        name: of the file, relative to it.

    Raises:
        FatalError: it is missing, not Parquet, or without the shape of its latents.
    """
    with open_parquet(out, name) as parquet:
        try:
            shape = latent_shape(parquet.schema_arrow)
        except ValueError as error:
            raise FatalError(f"{out.rstrip('/')}/{name} is damaged: {error}") from error
        yield LatentFile(out, name, parquet, shape)


def _runs(rows: IntArray) -> Iterator[tuple[int, int]]:
    """Start and end of each run of consecutive numbers."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    yield from itertools.pairwise(edges)


class _Local:
    """An open local file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, start: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, start)

    def read_into(self, start: int, target: memoryview) -> None:
        done = 0
        while done < len(target):
            count = os.preadv(self._descriptor, [target[done:]], start + done)
            if not count:
                raise EOFError("the file ends too early")
            done += count


class _Fetched:
    """Part of a file in memory."""

    def __init__(self, start: int, data: bytes) -> None:
        self._start = start
        self._data = data

    def read(self, start: int, size: int) -> bytes:
        at = start - self._start
        return self._data[at : at + size]

    def read_into(self, start: int, target: memoryview) -> None:
        part = self.read(start, len(target))
        if len(part) < len(target):
            raise EOFError("the file ends too early")
        target[:] = part
