"""Faces to look at: chosen evenly over a run, with their steps and maps of what changed.

Only the row groups that hold the chosen faces are read, a few rows at a time.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from pipeline.parquet_files import BATCH_ROWS, HasFiles, columns_of, file_of, open_parquet, spread
from restyle_core.metric_names import METRICS

MAX_FACES = 60
MAX_UNITS = 32
READ_BUDGET = 256 * 2**20
"""Bytes of images that are read at most, shared by the units that are looked at."""

THUMBNAIL_SIDE = 256
HEATMAP_SIDE = 128

_TOTAL = -1
Key = tuple[str, int, int]
"""Image, revision and number of the face."""
Change = npt.NDArray[np.float32]

# Dark violet over red to pale yellow: rises in lightness, so that it reads in grey and for
# colour-blind eyes, on light and on dark ground.
_RAMP = ((12, 10, 38), (74, 20, 96), (150, 38, 92), (216, 76, 56), (248, 148, 44), (250, 236, 158))


@dataclass(frozen=True)
class Frame:
    """One picture of a face's refinement.

    Attributes:
        step: 0 is the aligned input, 1..N the reconstructions.
        image: data URI.
        change: data URI of the map against the step before; empty where there is none.
    """

    step: int
    image: str
    change: str = ""


@dataclass(frozen=True)
class FaceStrip:
    """One face: where it comes from, how well it went, and its pictures in order.

    Attributes:
        source: the URI or shard member as the user knows it.
        face: number of the face in its photo.
        metrics: of the last step, those that are numbers.
        frames: input first.
        total: data URI of the map between the first and the last step; empty with fewer than two.
    """

    source: str
    face: int
    metrics: dict[str, float]
    frames: tuple[Frame, ...]
    total: str


@dataclass(frozen=True)
class Gallery:
    """What is shown, of how many, and the value at the upper end of the colour scale.

    Attributes:
        strips: the chosen faces.
        faces: all faces of the run.
        scale: mean absolute change, images in [-1, 1], that has the brightest colour.
    """

    strips: tuple[FaceStrip, ...]
    faces: int
    scale: float


@dataclass(frozen=True, eq=False)
class _Picture:
    """A thumbnail as data URI, and pixels [h, w, 3] on a scale whose length is that of [-1, 1]."""

    thumbnail: str
    pixels: Change


@dataclass(frozen=True, eq=False)
class _Chosen:
    key: Key
    source: str
    metrics: dict[str, float]
    pictures: dict[int, _Picture]


def read_gallery(out: str, records: Sequence[HasFiles], most: int = MAX_FACES) -> Gallery:
    """Choose faces evenly over a run and make what is shown of them.

    Args:
        out: the output, a path or any fsspec URI.
        records: committed units, or packs of them.
        most: faces to show at most.

    Raises:
        FatalError: a file is damaged or missing.
    """
    total = sum(record.faces for record in records)
    units = [record for record in records if file_of(record, "reconstructions")]
    shown = _positions(units, most)
    budget = READ_BUDGET // max(len(shown), 1)
    chosen: list[_Chosen] = []
    for index, positions in shown.items():
        chosen += _read_unit(out, units[index], positions, budget)
    changes = [_changes(face.pictures) for face in chosen]
    scale = _scale(change for per_face in changes for change in per_face.values())
    strips = tuple(
        _strip(face, per_face, scale) for face, per_face in zip(chosen, changes, strict=True)
    )
    return Gallery(strips, total, scale)


def colour_ramp() -> list[str]:
    """CSS colours of the scale, from no change to the most."""
    return [f"rgb({red} {green} {blue})" for red, green, blue in _RAMP]


def _positions(units: Sequence[HasFiles], most: int) -> dict[int, list[int]]:
    """Which faces of which units, by position; few units, so that few files are opened."""
    faces = [(index, place) for index, unit in enumerate(units) for place in range(unit.faces)]
    kept = set(spread(sorted({index for index, _ in spread(faces, most)}), MAX_UNITS))
    shown: dict[int, list[int]] = {}
    for index, place in spread([face for face in faces if face[0] in kept], most):
        shown.setdefault(index, []).append(place)
    return shown


def _read_unit(out: str, unit: HasFiles, positions: list[int], budget: int) -> list[_Chosen]:
    latents, images = file_of(unit, "latents"), file_of(unit, "reconstructions")
    if latents is None or images is None:
        return []
    with open_parquet(out, latents[0]) as parquet:
        names = ("image_id", "revision", "face", "source", *METRICS)
        rows = parquet.read(columns_of(parquet, names), use_threads=False)
    faces = rows.to_pylist()
    with open_parquet(out, images[0]) as parquet:
        keys = _keys(parquet)
        # A prefix of a file that is too large to be read whole still holds whole faces.
        affordable = set(keys[: max(_affordable(parquet, budget), max(Counter(keys).values()))])
        within = [row for row in faces if _key(row) in affordable]
        if len(within) == len(faces):
            wanted = [faces[position] for position in positions if position < len(faces)]
        else:
            wanted = spread(within, len(positions))
        pictures = _read_pictures(parquet, keys, {_key(row) for row in wanted})
    return [
        _Chosen(key, row["source"], _numbers(row), pictures[key])
        for row in wanted
        if (key := _key(row)) in pictures
    ]


def _keys(parquet: pq.ParquetFile) -> list[Key]:
    rows = parquet.read(["image_id", "revision", "face"], use_threads=False)
    return [_key(row) for row in rows.to_pylist()]


def _key(row: dict[str, Any]) -> Key:
    return row["image_id"], row["revision"], row["face"]


def _affordable(parquet: pq.ParquetFile, budget: int) -> int:
    """Rows from the beginning of a file that fit the budget."""
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


def _numbers(row: dict[str, object]) -> dict[str, float]:
    return {
        name: value
        for name in METRICS
        if isinstance(value := row.get(name), float) and math.isfinite(value)
    }


def _picture(data: bytes) -> _Picture:
    """Shrink at once what will not be shown larger, so that few full-size images are held."""
    with Image.open(io.BytesIO(data)) as encoded:
        image = encoded.convert("RGB")
    small = image.copy()
    small.thumbnail((HEATMAP_SIDE, HEATMAP_SIDE), Image.Resampling.BOX)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(small, dtype=np.float32) / 127.5
    return _Picture(_data_uri(image, "WEBP", quality=90, method=4), pixels)


def _changes(pictures: dict[int, _Picture]) -> dict[int, Change]:
    """Maps [h, w] of mean absolute change by step; ``_TOTAL`` is first step against last."""
    steps = sorted(step for step in pictures if step > 0)
    pairs = {step: (step - 1, step) for step in steps if step - 1 in steps}
    if len(steps) > 1:
        pairs[_TOTAL] = (steps[0], steps[-1])
    return {
        name: np.abs(pictures[after].pixels - pictures[before].pixels).mean(axis=2)
        for name, (before, after) in pairs.items()
    }


def _scale(changes: Iterable[Change]) -> float:
    """A round value that nearly every pixel of every map lies below."""
    tops = [float(np.quantile(change, 0.995)) for change in changes]
    if not tops:
        return 0.0
    top = max(float(np.quantile(tops, 0.95)), 1e-3)
    unit = 10.0 ** math.floor(math.log10(top))
    return next(unit * factor for factor in (1, 1.5, 2, 3, 4, 5, 7.5, 10) if unit * factor >= top)


def _strip(face: _Chosen, changes: dict[int, Change], scale: float) -> FaceStrip:
    maps = {name: _heatmap(change, scale) for name, change in changes.items()}
    frames = tuple(
        Frame(step, picture.thumbnail, maps.get(step, ""))
        for step, picture in sorted(face.pictures.items())
    )
    return FaceStrip(face.source, face.key[2], face.metrics, frames, maps.get(_TOTAL, ""))


def _heatmap(change: Change, scale: float) -> str:
    levels = np.clip(np.rint(change / scale * 255), 0, 255).astype(np.uint8)
    image = Image.fromarray(levels).convert("P")
    positions = np.linspace(0, len(_RAMP) - 1, 256)
    colours = [
        np.interp(positions, range(len(_RAMP)), channel) for channel in zip(*_RAMP, strict=True)
    ]
    image.putpalette(np.rint(np.stack(colours, axis=1)).astype(np.uint8).tobytes())
    return _data_uri(image, "PNG", optimize=True)


def _data_uri(image: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
