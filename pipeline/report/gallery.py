"""The report's gallery: the worst faces of a run and a uniform selection, with their pictures.

Only row groups with selected faces are read, a few rows at a time.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from restyle.pipeline.ledger.datasets import metric_columns
from restyle.pipeline.ledger.parquet_files import (
    BATCH_ROWS,
    HasFiles,
    columns_of,
    file_of,
    open_parquet,
    spread,
)
from restyle.pipeline.report.change_maps import Change, differences, heatmap, pixels, scale_of
from restyle.pipeline.results.faces import Place

MAX_FACES = 60
MAX_UNITS = 32
READ_BUDGET = 256 * 2**20
"""Maximum number of bytes of images to read, divided by the selected units."""

THUMBNAIL_SIDE = 256

# A few pixels at edges differ by far more than a face does, and would darken all maps.
_BELOW_SCALE = 0.97

Key = tuple[str, int, int]
"""Image, revision and number of the face."""


@dataclass(frozen=True)
class Frame:
    """One picture of a face's refinement.

    Attributes:
        step: 0 is the aligned input, 1..N the reconstructions.
        image: data URI.
        difference: data URI of the map of the difference from the input; empty for the input.
    """

    step: int
    image: str
    difference: str = ""


@dataclass(frozen=True)
class FaceStrip:
    """One face with its metrics and pictures.

    Attributes:
        source: the URI or shard member.
        face: number of the face in its photo.
        metrics: finite metrics of the last step.
        frames: pictures, input first.
    """

    source: str
    face: int
    metrics: dict[str, float]
    frames: tuple[Frame, ...]

    @property
    def input(self) -> Frame | None:
        """The input, if it was kept."""
        return self.frames[0] if self.frames[0].step == 0 else None

    @property
    def steps(self) -> tuple[Frame, ...]:
        """The reconstructions that were kept."""
        return tuple(frame for frame in self.frames if frame.step)


@dataclass(frozen=True)
class Gallery:
    """The selected faces and the scale of their difference maps.

    Attributes:
        strips: faces selected uniformly.
        faces: number of all faces of the run.
        scale: mean absolute difference, for images in [-1, 1], with the brightest colour.
        special: further faces that were asked for, by key.
    """

    strips: tuple[FaceStrip, ...]
    faces: int
    scale: float
    special: dict[Key, FaceStrip]


@dataclass(frozen=True, eq=False)
class _Picture:
    """A thumbnail as data URI, and pixels by :func:`restyle.pipeline.report.change_maps.pixels`."""

    thumbnail: str
    pixels: Change


@dataclass(frozen=True, eq=False)
class _Chosen:
    key: Key
    source: str
    metrics: dict[str, float]
    pictures: dict[int, _Picture]


def key_of(place: Place) -> Key:
    """The key of a face by its place."""
    return place.image_id, place.revision, place.face


def read_gallery(
    out: str,
    records: Sequence[HasFiles],
    most: int = MAX_FACES,
    special: Sequence[Place] = (),
    stands: Callable[[pa.Table], pa.ChunkedArray | pa.Array] | None = None,
) -> Gallery:
    """Select faces uniformly from a run and read their pictures.

    Args:
        out: the output, a path or any fsspec URI.
        records: committed units, or packs of them.
        most: maximum number of selected faces.
        special: faces to read besides.
        stands: mask of the rows that no later revision of their input replaces, see
            :meth:`restyle.pipeline.results.snapshot.Snapshot.stands`; None if all do.

    Raises:
        FatalError: a file is damaged or missing.
    """
    total = sum(record.faces for record in records)
    units = [record for record in records if file_of(record, "reconstructions")]
    shown = _positions(units, most)
    budget = READ_BUDGET // max(len(shown), 1)
    chosen: list[_Chosen] = []
    for index, positions in shown.items():
        chosen += _read_unit(out, units[index], positions, budget, stands)
    wanted = {key_of(place): place for place in special}
    asked = [face for place in wanted.values() if (face := _read_place(out, place)) is not None]
    maps = [
        differences({step: picture.pixels for step, picture in face.pictures.items()})
        for face in [*chosen, *asked]
    ]
    scale = scale_of((each for per_face in maps for each in per_face.values()), _BELOW_SCALE)
    strips = [
        _strip(face, per_face, scale)
        for face, per_face in zip([*chosen, *asked], maps, strict=True)
    ]
    keys = [face.key for face in asked]
    return Gallery(
        tuple(strips[: len(chosen)]),
        total,
        scale,
        dict(zip(keys, strips[len(chosen) :], strict=True)),
    )


def _positions(units: Sequence[HasFiles], most: int) -> dict[int, list[int]]:
    """Positions of the selected faces by index of the unit, from at most MAX_UNITS units."""
    faces = [(index, place) for index, unit in enumerate(units) for place in range(unit.faces)]
    kept = set(spread(sorted({index for index, _ in spread(faces, most)}), MAX_UNITS))
    shown: dict[int, list[int]] = {}
    for index, place in spread([face for face in faces if face[0] in kept], most):
        shown.setdefault(index, []).append(place)
    return shown


def _read_unit(
    out: str,
    unit: HasFiles,
    positions: list[int],
    budget: int,
    stands: Callable[[pa.Table], pa.ChunkedArray | pa.Array] | None,
) -> list[_Chosen]:
    latents, images = file_of(unit, "latents"), file_of(unit, "reconstructions")
    if latents is None or images is None:
        return []
    with open_parquet(out, latents[0]) as parquet:
        metrics = metric_columns(parquet.schema_arrow)
        names = ("image_id", "revision", "face", "source", *metrics)
        rows = parquet.read(columns_of(parquet, names), use_threads=False)
    faces = rows.to_pylist()
    kept = [True] * len(faces) if stands is None else stands(rows).to_pylist()
    with open_parquet(out, images[0]) as parquet:
        keys = _keys(parquet)
        # Of a file that exceeds the budget only a prefix is read, with at least one face.
        affordable = set(keys[: max(_affordable(parquet, budget), max(Counter(keys).values()))])
        within = [
            row
            for row, is_kept in zip(faces, kept, strict=True)
            if is_kept and _key(row) in affordable
        ]
        if len(within) == len(faces):
            wanted = [faces[position] for position in positions if position < len(faces)]
        else:
            wanted = spread(within, len(positions))
        pictures = _read_pictures(parquet, keys, {_key(row) for row in wanted})
    return [
        _Chosen(key, row["source"], _numbers(row, metrics), pictures[key])
        for row in wanted
        if (key := _key(row)) in pictures
    ]


def _read_place(out: str, place: Place) -> _Chosen | None:
    """Read one face; None if none of its pictures were kept."""
    latents, images = file_of(place.files, "latents"), file_of(place.files, "reconstructions")
    if latents is None or images is None:
        return None
    key = key_of(place)
    with open_parquet(out, latents[0]) as parquet:
        metrics = metric_columns(parquet.schema_arrow)
        rows = parquet.read(columns_of(parquet, ("source", *metrics)), use_threads=False)
    (row,) = rows.slice(place.row, 1).to_pylist()
    with open_parquet(out, images[0]) as parquet:
        pictures = _read_pictures(parquet, _keys(parquet), {key})
    return _Chosen(key, row["source"], _numbers(row, metrics), pictures[key]) if pictures else None


def _keys(parquet: pq.ParquetFile) -> list[Key]:
    rows = parquet.read(["image_id", "revision", "face"], use_threads=False)
    return [_key(row) for row in rows.to_pylist()]


def _key(row: dict[str, Any]) -> Key:
    return row["image_id"], row["revision"], row["face"]


def _affordable(parquet: pq.ParquetFile, budget: int) -> int:
    """Number of a file's first rows that fit into the budget."""
    metadata = parquet.metadata
    rows: int = metadata.num_rows
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return rows if size <= budget else rows * budget // size


def _read_pictures(
    parquet: pq.ParquetFile, keys: list[Key], wanted: set[Key]
) -> dict[Key, dict[int, _Picture]]:
    pictures: dict[Key, dict[int, _Picture]] = {}
    end = 0
    for group in range(parquet.metadata.num_row_groups):
        at, end = end, end + parquet.metadata.row_group(group).num_rows
        missing = sum(key in wanted for key in keys[at:end])
        if not missing:
            continue
        for batch in parquet.iter_batches(
            BATCH_ROWS, [group], ["step", "image"], use_threads=False
        ):
            for row, key in enumerate(keys[at : at + batch.num_rows]):
                if key in wanted:
                    step = batch["step"][row].as_py()
                    pictures.setdefault(key, {})[step] = _picture(batch["image"][row].as_py())
                    missing -= 1
            at += batch.num_rows
            if not missing:
                break
    return pictures


def _numbers(row: dict[str, object], metrics: Sequence[str]) -> dict[str, float]:
    return {
        name: value
        for name in metrics
        if isinstance(value := row.get(name), float) and math.isfinite(value)
    }


def _picture(data: bytes) -> _Picture:
    """Decode and reduce a picture."""
    with Image.open(io.BytesIO(data)) as encoded:
        image = encoded.convert("RGB")
    small = pixels(image)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=4)
    return _Picture(_data_uri("webp", buffer.getvalue()), small)


def _strip(face: _Chosen, found: dict[int, Change], scale: float) -> FaceStrip:
    maps = {name: _data_uri("png", heatmap(change, scale)) for name, change in found.items()}
    frames = tuple(
        Frame(step, picture.thumbnail, maps.get(step, ""))
        for step, picture in sorted(face.pictures.items())
    )
    return FaceStrip(face.source, face.key[2], face.metrics, frames)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
