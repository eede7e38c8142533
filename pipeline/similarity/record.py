"""The record of an index, ``_index/similar.json``, which is written last.

It names all other files by their digests, and the committed files of latents that their codes were
made of, so that an index of other rows is never used.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyle.core.errors import DamagedError, SpecError
from restyle.pipeline.ledger.datasets import LATENTS
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.similarity.quantizer import Quantizer
from restyle.pipeline.similarity.segment import Segment, header_of, header_size, row_type
from restyle.pipeline.storage.filesystem import Part, Storage

FOLDER = "_index"
RECORD = f"{FOLDER}/similar.json"
_FLOAT = np.dtype("<f4")

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SegmentRecord(BaseModel):
    """A file of codes.

    Attributes:
        file: Digest in its name.
        header: Digest of its header.
        rows: Number of codes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Digest
    header: Digest
    rows: Count


class IndexRecord(BaseModel):
    """Content of ``_index/similar.json``.

    Attributes:
        format: Version of the file format.
        newest: Digest of the revisions that counted when the codes were made.
        shape: Of a latent.
        trained: Number of faces that the centroids are for.
        quantizer: Digest of what was trained: float32 of its axes, centroids and levels.
        axes: Number of axes.
        lists: Number of lists, one for each centroid.
        files: Name and digest of each file of latents whose rows have codes.
        segments: Files of codes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    newest: str
    shape: tuple[Count, Count]
    trained: Count
    quantizer: Digest
    axes: Annotated[int, Field(ge=1)]
    lists: Annotated[int, Field(ge=1)]
    files: list[tuple[str, str]]
    segments: list[SegmentRecord] = []

    def names(self) -> set[str]:
        """Names of all files of the index, relative to the output."""
        segments = {segment_file(each.file) for each in self.segments}
        return {RECORD, quantizer_file(self.quantizer), *segments}

    def is_of(self, snapshot: Snapshot) -> bool:
        """Whether the index has all rows that count, and no others."""
        files = {file.name: file.sha256 for file in snapshot.files(LATENTS)}
        return dict(self.files) == files and self.newest == newest_digest(snapshot)

    def write(self, storage: Storage) -> None:
        """Write or replace the record."""
        storage.write(RECORD, self.model_dump_json().encode())


def read_record(storage: Storage) -> IndexRecord:
    """Read the record of an output.

    Raises:
        SpecError: there is no index.
        DamagedError: it is damaged, or of another version of this format.
    """
    try:
        return IndexRecord.model_validate_json(storage.read(RECORD))
    except FileNotFoundError as error:
        raise SpecError(f"{storage.uri} has no index of its latents; {remedy(storage)}") from error
    except ValidationError as error:
        raise DamagedError(
            f"{storage.shown(RECORD)} is damaged or of another version; {remedy(storage)} again"
        ) from error


def damaged(storage: Storage) -> DamagedError:
    """The error that an index is damaged."""
    return DamagedError(f"{storage.shown(FOLDER)} is damaged; {remedy(storage)} again")


def remedy(storage: Storage) -> str:
    """What makes an index, for the end of a message."""
    return f"make it with `restyle index {storage.uri}`"


def write_quantizer(storage: Storage, quantizer: Quantizer) -> str:
    """Write what was trained, and return its digest."""
    arrays = (quantizer.axes, quantizer.centroids, quantizer.levels)
    data = b"".join(array.astype(_FLOAT).tobytes() for array in arrays)
    storage.write(quantizer_file(sha256(data)), data)
    return sha256(data)


def read_quantizer(storage: Storage, record: IndexRecord) -> Quantizer:
    """Read what was trained.

    Raises:
        DamagedError: it is damaged.
    """
    size = record.shape[0] * record.shape[1]
    shapes = [(record.axes + 1, size), (record.lists, record.axes), (2, record.axes)]
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    try:
        data = storage.read(quantizer_file(record.quantizer))
    except FileNotFoundError as error:
        raise damaged(storage) from error
    if sha256(data) != record.quantizer or len(data) != _FLOAT.itemsize * ends[-1]:
        raise damaged(storage)
    numbers = np.frombuffer(data, _FLOAT)
    if not np.isfinite(numbers).all():
        raise damaged(storage)
    parts = np.split(numbers, ends[:-1])
    return Quantizer(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def read_segments(storage: Storage, record: IndexRecord, quantizer: Quantizer) -> list[Segment]:
    """Read the headers of the files of codes.

    Raises:
        DamagedError: one is damaged.
    """
    lists, axes = quantizer.centroids.shape
    names = [segment_file(each.file) for each in record.segments]
    try:
        headers = storage.read_parts([Part(name, 0, header_size(lists)) for name in names])
    except FileNotFoundError as error:
        raise damaged(storage) from error
    for each, data in zip(record.segments, headers, strict=True):
        if sha256(data) != each.header or len(data) != header_size(lists):
            raise damaged(storage)
    return [
        Segment(name, header_of(data), row_type(axes))
        for name, data in zip(names, headers, strict=True)
    ]


def newest_digest(snapshot: Snapshot) -> str:
    """Digest of which revisions are current."""
    newest = (column.to_pylist() for column in snapshot.newest.columns)
    pairs = sorted(zip(*newest, strict=True))
    return sha256("".join(f"{image_id} {revision}\n" for image_id, revision in pairs).encode())


def quantizer_file(digest: str) -> str:
    """Name of the file of what was trained."""
    return f"{FOLDER}/quantizer-{digest}.bin"


def segment_file(digest: str) -> str:
    """Name of a file of codes."""
    return f"{FOLDER}/codes-{digest}.bin"


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
