"""Labels of an output's faces, from a table that a person or another program has made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from restyle.core.errors import SpecError, first_line_of, reason_of
from restyle.core.files import open_file
from restyle.pipeline.ledger.source_names import last_part
from restyle.pipeline.results.labelled import numbers
from restyle.pipeline.results.latents import read_latents

FloatArray = npt.NDArray[np.float32]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_KEYS = ("image_id", "source")


@dataclass(frozen=True, eq=False)
class LabelledFaces:
    """Faces of an output with their scores.

    Attributes:
        latents: float32 [N, n_styles, style_dim] of all faces.
        scores: float32 [N]; NaN for faces without a label.
        unused: number of labels that belong to no face of the output.
    """

    latents: FloatArray
    scores: FloatArray
    unused: int


def label_faces(out: str, labels: Path, score: str) -> LabelledFaces:
    """Read the latents of an output, and find the label of each face.

    Args:
        out: the output, a path or any fsspec URI.
        labels: a table as ``.csv``, ``.tsv`` or Parquet. A row belongs to the photograph that its
            column ``image_id`` or ``source`` names, the latter whole or by its last part, and to
            the face that its column ``face`` names, 0 without such a column.
        score: the column of numbers.

    Raises:
        SpecError: there is no such output or column, or a face is labelled twice.
        FatalError: a file of the output is damaged.
    """
    table = _read(labels)
    key = next((name for name in _KEYS if name in table.column_names), None)
    if key is None or score not in table.column_names:
        missing = f"no column {score!r}" if key else "neither a column 'image_id' nor 'source'"
        raise SpecError(f"{labels} has {missing}; it has {', '.join(table.column_names)}")
    values = numbers(table[score], f"{labels}: column {score!r}")
    rows, latents = read_latents(out, ["image_id", "source", "face"])
    by_face = {}
    for name, face, number in zip(rows[key], rows["face"], range(len(rows)), strict=True):
        by_face[str(name), int(face)] = number
    if key == "source":
        by_face |= _by_last_part(by_face)
    scores = np.full(len(rows), np.nan, np.float32)
    taken: set[int] = set()
    unused = 0
    for name, value in zip(_named(table, key, labels), values, strict=True):
        row = by_face.get(name)
        if row is None:
            unused += 1
        elif row in taken:
            raise SpecError(f"{labels} labels face {name[1]} of {name[0]!r} twice; leave one")
        else:
            taken.add(row)
            scores[row] = value
    return LabelledFaces(latents, scores, unused)


def _by_last_part(by_face: dict[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """Return the faces by the last part of their source, where that names one photograph."""
    found: dict[tuple[str, int], list[int]] = {}
    for (source, face), row in by_face.items():
        found.setdefault((last_part(source), face), []).append(row)
    return {name: rows[0] for name, rows in found.items() if len(rows) == 1 and name not in by_face}


def _named(table: pa.Table, key: str, labels: Path) -> Iterator[tuple[str, int]]:
    names = table[key].to_pylist()
    faces = table["face"].to_pylist() if "face" in table.column_names else [0] * len(names)
    for name, face in zip(names, faces, strict=True):
        if not isinstance(face, int):
            raise SpecError(f"{labels}: column 'face' holds {face!r}, not the number of a face")
        yield str(name), face


def _read(path: Path) -> pa.Table:
    try:
        open_file(path).close()
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {reason_of(error)}") from error
    separator = _SEPARATORS.get(path.suffix.lower())
    try:
        if separator is None:
            return pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)
        return pa_csv.read_csv(
            path,
            parse_options=pa_csv.ParseOptions(delimiter=separator),
            # An image_id of digits is no number.
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(_KEYS, pa.string())),
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SpecError(
            f"{path} is no table of labels (.csv, .tsv or Parquet): {first_line_of(error)}"
        ) from error
