"""Pictures of an evaluation: what sets of them are compared by, and single ones for the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from restyle.core.faces.alignment import Framing
from restyle.core.imaging.preprocessing import preprocess
from restyle.core.metrics.features import Features, embeddings, pooled_features
from restyle.core.networks.config import ModelConfig
from restyle.pipeline.editing.rows import strength_column
from restyle.pipeline.evaluation.edits import Edited, edit_files
from restyle.pipeline.evaluation.measured import KEY, Measured, keys_of
from restyle.pipeline.ledger.datasets import RECONSTRUCTIONS
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import BATCH_ROWS, open_parquet
from restyle.pipeline.results.face_rows import Key

INPUT = 0
"""Step of the aligned input among the reconstructions."""


def features_of(pictures: Sequence[Image.Image], config: ModelConfig) -> Features:
    """Features [N, d] of aligned pictures: of faces their embeddings, of others LPIPS's features.

    Args:
        pictures: RGB, of any size.
        config: of the model, which says how large its inputs are and how faces are cut out.
    """
    images = preprocess(list(pictures), config.image_size)
    if config.align:
        return embeddings(images, Framing(config.framing_scale, config.framing_shift))
    return pooled_features(images)


def reconstruction_features(measured: Measured, step: int | None = None) -> Features:
    """Features [N, d] of each face's last reconstruction, or of its input for step :data:`INPUT`.

    Raises:
        FatalError: a file is damaged.
    """
    files = [file.name for file in measured.snapshot.files(RECONSTRUCTIONS)]
    last: dict[Key, int] = {}
    for name in files if step is None else ():
        with open_parquet(measured.snapshot.out, name) as parquet:
            rows = parquet.read([*KEY, "step"], use_threads=False)
        for key, number in zip(keys_of(rows), rows["step"].to_pylist(), strict=True):
            last[key] = max(last.get(key, 0), number)

    def is_wanted(key: Key, row: float) -> bool:
        return row == (last[key] if step is None else step)

    return _features(measured, measured.snapshot.out, files, "step", is_wanted)


def edit_features(edited: Edited, change: float) -> Features:
    """Features [N, d] of the faces edited to a change.

    Raises:
        FatalError: a file is damaged.
    """
    # The column is float32.
    wanted = float(np.float32(edited.strengths[change]))
    files = edit_files(Output.at(edited.out).sets())
    column = strength_column(edited.direction)
    return _features(edited.measured, edited.out, files, column, lambda _, row: row == wanted)


def _features(
    measured: Measured,
    out: str,
    files: Sequence[str],
    column: str,
    is_wanted: Callable[[Key, float], bool],
) -> Features:
    """Features of one picture of each compared face, chosen by a column of its rows."""
    place = {key: row for row, key in enumerate(measured.keys)}
    config = measured.contender.identity.config
    found: dict[int, Features] = {}
    for name in files:
        with open_parquet(out, name) as parquet:
            for batch in parquet.iter_batches(
                BATCH_ROWS, columns=[*KEY, column, "image"], use_threads=False
            ):
                keys, values = keys_of(batch), batch[column].to_pylist()
                rows = [
                    row
                    for row, (key, value) in enumerate(zip(keys, values, strict=True))
                    if key in place and is_wanted(key, value)
                ]
                if rows:
                    pictures = [opened(batch["image"][row].as_py()) for row in rows]
                    features = features_of(pictures, config)
                    found.update(zip([place[keys[row]] for row in rows], features, strict=True))
    return np.stack([found[row] for row in range(len(place))])


def opened(data: bytes) -> Image.Image:
    """Decode a picture of an output."""
    with Image.open(io.BytesIO(data)) as encoded:
        return encoded.convert("RGB")
