"""A picture of a few faces with all their refinement steps."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from PIL import Image

from restyle.pipeline.ledger.datasets import RECONSTRUCTIONS
from restyle.pipeline.ledger.entries import read_file_sets
from restyle.pipeline.ledger.parquet_files import BATCH_ROWS, file_of, open_parquet
from restyle.pipeline.pictures.picture_file import as_png, grid
from restyle.pipeline.storage.filesystem import open_storage

NAME = "strip.png"
FACES = 8

Key = tuple[str, int, int]


def write_strip(out: str, faces: int = FACES) -> str:
    """Write ``strip.png`` with a column for each of the first faces: the input, then each step.

    Args:
        out: an output with reconstructions.
        faces: maximum number of faces.

    Returns:
        Its path, or a message that there is no face.

    Raises:
        FatalError: a file is damaged.
    """
    columns: dict[Key, dict[int, Image.Image]] = {}
    for row in _rows(out):
        key = (row["image_id"], row["revision"], row["face"])
        if key not in columns:
            if len(columns) == faces:
                break
            columns[key] = {}
        columns[key][row["step"]] = Image.open(io.BytesIO(row["image"])).convert("RGB")
    if not columns:
        return "no face to show"
    steps = sorted({step for column in columns.values() for step in column})
    sheet = grid([[column.get(step) for column in columns.values()] for step in steps])
    storage = open_storage(out)
    storage.write(NAME, as_png(sheet))
    return storage.shown(NAME)


def _rows(out: str) -> Iterator[dict[str, Any]]:
    for files in read_file_sets(open_storage(out)):
        named = file_of(files, RECONSTRUCTIONS)
        if named is None:
            continue
        with open_parquet(out, named[0]) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, use_threads=False):
                yield from batch.to_pylist()
