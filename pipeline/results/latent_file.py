"""One file of latents, a row group at a time, each read by the shortest way there is."""

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

from restyle.core.errors import FatalError
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
        parquet: its rows.
        shape: number of styles and their length.
    """

    out: str
    name: str
    parquet: pq.ParquetFile
    shape: tuple[int, int]

    def groups(self) -> Iterator[tuple[int, int, int]]:
        """Each row group: its number, its first row in the file, and how many rows it has."""
        start = 0
        for group in range(self.parquet.num_row_groups):
            rows = self.parquet.metadata.row_group(group).num_rows
            yield group, start, rows
            start += rows

    def read_into(self, rows: IntArray, target: FloatArray) -> None:
        """Read latents from anywhere in the file.

        Args:
            rows: their numbers in the file, ascending.
            target: [len(rows), n_styles * length], contiguous; is filled.

        Raises:
            FatalError: the file is damaged.
        """
        for group, start, count in self.groups():
            low, high = np.searchsorted(rows, (start, start + count))
            if low < high:
                self.read_group(group, rows[low:high] - start, target[low:high])

    def read_group(self, group: int, rows: IntArray, target: FloatArray) -> None:
        """As :meth:`read_into`, the rows being numbered within a row group."""
        where = f"{self.out.rstrip('/')}/{self.name}"
        with self._bytes(group) as file:
            try:
                pages = find_pages(self.parquet, group, file)
                if pages is None:
                    target[:] = decode(self.parquet, group)[rows]
                    return
                for first, last in _runs(rows):
                    pages.read_into(file, int(rows[first]), target[first:last])
            except (pa.ArrowException, ValueError, IndexError, EOFError) as error:
                raise FatalError(
                    f"{where} is damaged: {' '.join(str(error).split())}; {DAMAGE}"
                ) from error

    @contextlib.contextmanager
    def _bytes(self, group: int) -> Iterator[ByteRange]:
        path = local_file(self.out, self.name)
        if path is None:
            # At once, because each range is a request.
            start, size = column_range(self.parquet, group)
            yield _Fetched(start, read_range(self.out, self.name, start, size))
            return
        with storage_errors("cannot read", f"{self.out.rstrip('/')}/{self.name}"):
            descriptor = os.open(path, os.O_RDONLY)
        try:
            yield _Local(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def open_latents(out: str, name: str) -> Iterator[LatentFile]:
    """Open a file of latents.

    Args:
        out: the output, a path or any fsspec URI.
        name: of the file, relative to it.

    Raises:
        FatalError: it is missing, no Parquet, or does not say what shape its latents have.
    """
    with open_parquet(out, name) as parquet:
        try:
            shape = latent_shape(parquet.schema_arrow)
        except ValueError as error:
            raise FatalError(f"{out.rstrip('/')}/{name} is damaged: {error}") from error
        yield LatentFile(out, name, parquet, shape)


def _runs(rows: IntArray) -> Iterator[tuple[int, int]]:
    """Begin and end of each stretch of numbers that follow one another."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    yield from itertools.pairwise(edges)


class _Local:
    """An open file of this machine."""

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
    """Part of a file that is in memory."""

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
