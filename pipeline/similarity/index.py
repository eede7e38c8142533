"""The index of an output: sketches of its current latents, in ``_index/``.

``_index/similar.json`` is written last and names the committed files of latents that the sketches
were made of; a search compares it with the ledger, so that an index of other rows is never used.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyle.core.errors import DamagedError, SpecError
from restyle.pipeline.ledger.datasets import LATENTS
from restyle.pipeline.results.forms.selected_rows import SelectedRows
from restyle.pipeline.results.latent_file import IntArray
from restyle.pipeline.results.latent_pages import FloatArray
from restyle.pipeline.results.latents import Pick, Wanted, picks_of
from restyle.pipeline.results.snapshot import Snapshot
from restyle.pipeline.similarity.sketch import Basis, fit_basis
from restyle.pipeline.storage.filesystem import Storage

FOLDER = "_index"
_RECORD = f"{FOLDER}/similar.json"
_ARRAYS = ("basis", "sketches", "rows")
_SAMPLE = 2048

Count = Annotated[int, Field(ge=0)]


class IndexRecord(BaseModel):
    """Content of ``_index/similar.json``.

    Attributes:
        format: Version of the file format.
        data: Digest of the files of latents and of the revisions that count.
        shape: Of a latent.
        files: Name of each file of latents and the number of its rows in the index.
        sha256: Of each array's file, by its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    data: str
    shape: tuple[Count, Count]
    files: list[tuple[str, Count]]
    sha256: dict[str, str]


@dataclass(frozen=True, eq=False)
class Index:
    """Sketches of the current latents.

    Attributes:
        basis: origin and axes.
        sketches: [N, axes + 1] float32.
        rows: the latents themselves, read when asked for; their tables have no columns.
    """

    basis: Basis
    sketches: FloatArray
    rows: SelectedRows


def build_index(snapshot: Snapshot) -> int:
    """Make the index of an output, which replaces an earlier one.

    Memory holds 260 bytes for each face, and one row group.

    Args:
        snapshot: the output.

    Returns:
        Number of faces.

    Raises:
        SpecError: the output has no faces.
        FatalError: a file is missing or damaged, or the index cannot be written.
    """
    picks = picks_of(snapshot, Wanted(snapshot.out, [], None, "current"))
    storage = snapshot.storage
    with SelectedRows.of(snapshot.out, picks) as rows:
        if not len(rows):
            raise SpecError(f"{storage.uri} holds no faces to index yet")
        size = rows.shape[0] * rows.shape[1]
        # Evenly spaced, so that every part of the input counts.
        chosen = np.unique(np.linspace(0, len(rows) - 1, _SAMPLE).astype(np.int64))
        basis = fit_basis(rows.read(chosen).reshape(-1, size))
        sketches = np.empty((len(rows), len(basis.axes) + 1), np.float32)
        end = 0
        for _, latents in rows.batches():
            start, end = end, end + len(latents)
            sketches[start:end] = basis.sketch(latents.reshape(-1, size))
    arrays = {
        "basis": np.concatenate([basis.origin[None], basis.axes]),
        "sketches": sketches,
        "rows": np.concatenate([pick.rows for pick in picks]),
    }
    storage.delete(_RECORD)
    record = IndexRecord(
        data=data_digest(snapshot),
        shape=rows.shape,
        files=[(pick.name, len(pick.rows)) for pick in picks],
        sha256={name: _write(storage, name, array) for name, array in arrays.items()},
    )
    storage.write(_RECORD, record.model_dump_json().encode())
    return len(rows)


def open_index(snapshot: Snapshot) -> Index:
    """Read the index of an output.

    Raises:
        SpecError: there is none, or it is one of other rows.
        DamagedError: its files are damaged.
    """
    storage = snapshot.storage
    remedy = f"make it with `restyle index {storage.uri}`"
    try:
        record = IndexRecord.model_validate_json(storage.read(_RECORD))
    except FileNotFoundError as error:
        raise SpecError(f"{storage.uri} has no index of its latents; {remedy}") from error
    except ValidationError as error:
        raise DamagedError(f"{storage.shown(_RECORD)} is damaged; {remedy} again") from error
    if record.data != data_digest(snapshot):
        raise SpecError(f"the index of {storage.uri} is one of other rows; {remedy} again")
    try:
        basis, sketches, places = (_read(storage, name, record) for name in _ARRAYS)
        rows = _selected(snapshot, record, places)
        if sketches.shape != (len(rows), len(basis)) or basis.shape[1] != np.prod(record.shape):
            raise ValueError("shape")
    except (FileNotFoundError, ValueError, KeyError, IndexError) as error:
        raise DamagedError(f"{storage.shown(FOLDER)} is damaged; {remedy} again") from error
    return Index(Basis(basis[0], basis[1:]), sketches, rows)


def remove_index(storage: Storage) -> None:
    """Remove the index of an output, if there is one."""
    storage.delete(_RECORD)
    for name in _ARRAYS:
        storage.delete(_file(name))


def data_digest(snapshot: Snapshot) -> str:
    """Digest of the committed files of latents, and of which revisions are current."""
    digest = hashlib.sha256()
    for file in snapshot.files(LATENTS):
        digest.update(f"{file.name} {file.sha256}\n".encode())
    newest = (column.to_pylist() for column in snapshot.newest.columns)
    for image_id, revision in sorted(zip(*newest, strict=True)):
        digest.update(f"{image_id} {revision}\n".encode())
    return digest.hexdigest()


def _selected(snapshot: Snapshot, record: IndexRecord, places: IntArray) -> SelectedRows:
    ends = np.cumsum([count for _, count in record.files])
    if places.ndim != 1 or places.dtype != np.int64 or len(places) != ends[-1]:
        raise ValueError("rows")
    table = snapshot.newest.select([])
    picks = [
        Pick(name, record.shape, part, table)
        for (name, _), part in zip(record.files, np.split(places, ends[:-1]), strict=True)
    ]
    return SelectedRows.of(snapshot.out, picks)


def _file(name: str) -> str:
    return f"{FOLDER}/{name}.npy"


def _write(storage: Storage, name: str, array: FloatArray | IntArray) -> str:
    target = io.BytesIO()
    np.save(target, array, allow_pickle=False)
    data = target.getvalue()
    storage.write(_file(name), data)
    return hashlib.sha256(data).hexdigest()


def _read(storage: Storage, name: str, record: IndexRecord) -> Any:
    data = storage.read(_file(name))
    if hashlib.sha256(data).hexdigest() != record.sha256[name]:
        raise ValueError("checksum")
    return np.load(io.BytesIO(data), allow_pickle=False)
