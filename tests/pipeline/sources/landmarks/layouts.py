"""Files of landmarks in every layout, written as the programs and sets do that they come from."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Points = np.ndarray
"""[P, 2] points of a face."""

Rows = Sequence[tuple[str, Points]]
"""Key and points of each face."""

CELEBA = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")


def _columns(rows: Rows, names: Sequence[str] | None = None) -> dict[str, list[float]]:
    count = len(rows[0][1])
    found = {}
    for point in range(count):
        for axis, letter in enumerate("xy"):
            name = f"{names[point]}_{letter}" if names else f"{letter}{point}"
            found[name] = [float(points[point, axis]) for _, points in rows]
    return found


def parquet_lists(path: Path, rows: Rows) -> None:
    points = [each.tolist() for _, each in rows]
    table = {"path": [key for key, _ in rows], "landmarks": points, "other": range(len(rows))}
    pq.write_table(pa.table(table), path, row_group_size=2)


def parquet_flat_lists(path: Path, rows: Rows) -> None:
    """As the column ``quad`` of ``latents/``."""
    size = 2 * len(rows[0][1])
    values = pa.array(np.concatenate([each.ravel() for _, each in rows]).astype(float))
    columns = [
        pa.array(["0" * 32] * len(rows)),
        pa.array([key for key, _ in rows]),
        pa.FixedSizeListArray.from_arrays(values, size),
    ]
    pq.write_table(pa.table(columns, names=["image_id", "source", "quad"]), path)


def parquet_wide(path: Path, rows: Rows) -> None:
    pd.DataFrame({"file_name": [key for key, _ in rows], **_columns(rows)}).to_parquet(path)


def _long(rows: Rows) -> dict[str, list[object]]:
    points = [
        (key, face, number, *point)
        for face, (key, each) in enumerate(rows)
        for number, point in enumerate(each.tolist())
    ]
    return dict(
        zip(("name", "face", "point", "x", "y"), map(list, zip(*points, strict=True)), strict=True)
    )


def parquet_long(path: Path, rows: Rows) -> None:
    pq.write_table(pa.table(_long(rows)), path, row_group_size=50)


def _csv(path: Path, table: dict[str, list[object]], delimiter: str, encoding: str) -> None:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def csv_wide(path: Path, rows: Rows) -> None:
    table = {"path": [key for key, _ in rows], **_columns(rows)}
    _csv(path, table, ",", "utf-8")  # type: ignore[arg-type]


def csv_of_excel(path: Path, rows: Rows) -> None:
    """With semicolons and a byte order mark, names of columns in capitals, and others between."""
    table = {"Remark": ["a;b"] * len(rows), "Path": [key for key, _ in rows]}
    columns = {name.upper(): values for name, values in _columns(rows).items()}
    _csv(path, table | columns, ";", "utf-8-sig")  # type: ignore[arg-type]


def csv_long(path: Path, rows: Rows) -> None:
    _csv(path, _long(rows), "\t", "utf-8")


def csv_celeba(path: Path, rows: Rows) -> None:
    """As ``list_landmarks_align_celeba.csv``."""
    table = {"image_id": [key for key, _ in rows], **_columns(rows, CELEBA)}
    _csv(path, table, ",", "utf-8")  # type: ignore[arg-type]


def text_celeba(path: Path, rows: Rows) -> None:
    """As ``list_landmarks_celeba.txt``: the number of rows, the names, values under each other."""
    names = " ".join(_columns(rows, CELEBA))
    lines = [f"{key} " + " ".join(f"{v:>8}" for v in each.ravel()) for key, each in rows]
    path.write_text("\n".join([str(len(rows)), names + " ", *lines]) + "\n")


def json_object(path: Path, rows: Rows) -> None:
    """A face of a photograph as its points, several as a list of such."""
    found: dict[str, list[object]] = {}
    for key, points in rows:
        found.setdefault(key, []).append(points.tolist())
    path.write_text(json.dumps({key: each if each[1:] else each[0] for key, each in found.items()}))


def json_records(path: Path, rows: Rows) -> None:
    records = [{"path": key, "landmarks": each.ravel().tolist(), "n": 1} for key, each in rows]
    path.write_text(json.dumps(records, indent=2))


def json_lines(path: Path, rows: Rows) -> None:
    records = [{"source": key, "landmarks": each.tolist()} for key, each in rows]
    path.write_text("\n".join(map(json.dumps, records)) + "\n")


def json_ffhq(path: Path, rows: Rows) -> None:
    """As ``ffhq-dataset-v2.json``: each face in the wild picture and in the aligned one."""
    entries = {}
    for number, (key, points) in enumerate(rows):
        name = f"{number:05d}.png"
        entries[str(number)] = {
            "category": "training",
            "metadata": {"photo_title": "{[", "author": 'a "b"'},
            "image": {
                "file_path": f"images1024x1024/00000/{name}",
                "pixel_size": [1024, 1024],
                "face_landmarks": (points * 0.5 + 7).tolist(),
            },
            "thumbnail": {"file_path": f"thumbnails128x128/00000/{name}", "pixel_size": [128, 128]},
            "in_the_wild": {
                "file_path": key,
                "pixel_size": [2016, 1512],
                "face_rect": [667, 410, 1438, 1181],
                "face_landmarks": points.tolist(),
                "face_quad": [[0, 0], [0, 9], [9, 9], [9, 0]],
            },
        }
    path.write_text(json.dumps(entries))


Writer = Callable[[Path, Rows], None]

ANY_COUNT: dict[str, Writer] = {
    "lists.parquet": parquet_lists,
    "flat.parquet": parquet_flat_lists,
    "wide.parquet": parquet_wide,
    "long.parquet": parquet_long,
    "wide.csv": csv_wide,
    "excel.csv": csv_of_excel,
    "long.tsv": csv_long,
    "object.json": json_object,
    "records.json": json_records,
    "lines.jsonl": json_lines,
}
"""Layouts of 68 points, five, or corners, by a name for a file."""

OF_68: dict[str, Writer] = {"ffhq.json": json_ffhq}
OF_FIVE: dict[str, Writer] = {"celeba.csv": csv_celeba, "celeba.txt": text_celeba}
