"""Reading the pictures of single faces from files of thousands of faces."""

from __future__ import annotations

import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from restyle.core.errors import FatalError
from restyle.pipeline.ledger.datasets import RECONSTRUCTIONS
from restyle.pipeline.ledger.parquet_files import BATCH_ROWS, file_of, open_parquet
from restyle.pipeline.report.change_maps import Change, changes, differences, pixels
from restyle.pipeline.results.faces import Place

Kind = Literal["change", "difference"]
"""What a map shows: the change by a step, or the difference from the input."""

THUMBNAIL_SIDE = 256
_MAX_PIXELS = 4096 * 4096
_GROUP_BYTES = 64 * 2**20
"""Row groups up to this size are cached, because the next face is often in the same one."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """A cache of the least recently used values, bounded by their total size. Thread-safe.

    Args:
        size: returns the size of a value.
        room: limit of the total size.
    """

    def __init__(self, size: Callable[[V], int], room: int) -> None:
        self._size = size
        self._room = room
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._used = 0
        self._guard = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The cached value of a key, computed if it is missing."""
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            value = make()
            self._kept[key] = value
            self._used += self._size(value)
            while self._used > self._room and len(self._kept) > 1:
                self._used -= self._size(self._kept.popitem(last=False)[1])
            return value


class Pictures:
    """Reads the pictures of faces.

    Args:
        out: the output, a path or any fsspec URI.
    """

    def __init__(self, out: str) -> None:
        self._out = out
        self._keys: Cache[str, pa.Table] = Cache(lambda table: table.nbytes, 64 * 2**20)
        self._groups: Cache[tuple[str, int], pa.ChunkedArray] = Cache(
            lambda column: column.nbytes, 128 * 2**20
        )
        self._faces: Cache[tuple[str, int], dict[int, bytes]] = Cache(
            lambda pictures: sum(map(len, pictures.values())), 64 * 2**20
        )

    def of(self, place: Place) -> dict[int, bytes]:
        """The encoded pictures of a face by step (0 for the input); empty if none were saved.

        Raises:
            FatalError: the file is missing or damaged.
        """
        named = file_of(place.files, RECONSTRUCTIONS)
        if named is None:
            return {}
        return self._faces.get((named[0], place.row), lambda: self._read(named[0], place))

    def _read(self, name: str, place: Place) -> dict[int, bytes]:
        with open_parquet(self._out, name) as parquet:
            keys = self._keys.get(
                name,
                lambda: parquet.read(["image_id", "revision", "face", "step"], use_threads=False),
            )
            rows = np.flatnonzero(np.asarray(is_of(place, keys)))
            steps = keys["step"].take(pa.array(rows)).to_pylist()
            images: list[bytes] = []
            start = 0
            for group in range(parquet.metadata.num_row_groups):
                about = parquet.metadata.row_group(group)
                within = rows[(rows >= start) & (rows < start + about.num_rows)] - start
                start += about.num_rows
                if not len(within):
                    continue
                if about.total_byte_size <= _GROUP_BYTES:
                    column = self._groups.get(
                        (name, group),
                        lambda group=group: parquet.read_row_group(  # type: ignore[misc]
                            group, ["image"], use_threads=False
                        ).column(0),
                    )
                    images += column.take(pa.array(within)).to_pylist()
                else:
                    images += _scan(parquet, group, within.tolist())
        return dict(sorted(zip(steps, images, strict=True)))


def is_of(place: Place, table: pa.Table) -> pa.ChunkedArray:
    """Mask of a table's rows that belong to a face."""
    same_image = pc.and_(
        pc.equal(table["image_id"], place.image_id), pc.equal(table["revision"], place.revision)
    )
    return pc.and_(same_image, pc.equal(table["face"], place.face))


def _scan(parquet: pa.parquet.ParquetFile, group: int, rows: list[int]) -> list[bytes]:
    """Read some images of a row group in batches, because it is too large for memory."""
    found: list[bytes] = []
    start = 0
    for batch in parquet.iter_batches(BATCH_ROWS, [group], ["image"], use_threads=False):
        found += [
            batch.column(0)[row - start].as_py()
            for row in rows
            if start <= row < start + batch.num_rows
        ]
        start += batch.num_rows
        if len(found) == len(rows):
            break
    return found


def decoded(data: bytes, what: str) -> Image.Image:
    """Decode a picture of an output to RGB.

    Raises:
        FatalError: it is not a picture, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise FatalError(f"{what} has {image.width} x {image.height} pixels")
                return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise FatalError(f"{what} is no picture: {error}") from error


def thumbnail(data: bytes, what: str) -> bytes:
    """Reduce a picture to at most :data:`THUMBNAIL_SIDE` pixels a side and encode it as WebP."""
    image = decoded(data, what)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=max(image.size) <= THUMBNAIL_SIDE // 2, quality=88)
    return buffer.getvalue()


def maps_of(pictures: dict[int, bytes], what: str) -> dict[Kind, dict[int, Change]]:
    """Maps of each step's change, and of its difference from the input, by kind and step."""
    reduced = {step: pixels(decoded(data, what)) for step, data in pictures.items()}
    return {"change": changes(reduced), "difference": differences(reduced)}
