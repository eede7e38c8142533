"""Reading latents and scores from Parquet, for fitting directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from restyle.core.errors import SpecError
from restyle.pipeline.ledger.datasets import latent_shape

FloatArray = npt.NDArray[np.float32]


def read_labelled(path: Path, score: str | None) -> tuple[FloatArray, FloatArray]:
    """Read the column ``latent`` and a column of numbers.

    Args:
        path: a Parquet file or a folder of them, such as ``OUT/latents``.
        score: the column of numbers, or None.

    Returns:
        float32 [N, style_dim], or [N, n_styles, style_dim] if the column's metadata has the shape,
        as from ``restyle invert``; and float32 [N], NaN for missing numbers.

    Raises:
        SpecError: the file is not Parquet, or a column is missing or has another type.
    """
    if not path.exists():
        raise SpecError(f"{path} does not exist")
    wanted = ["latent"] if score is None else ["latent", score]
    try:
        dataset = pq.ParquetDataset(path, pre_buffer=False)
        schema = dataset.schema
        for name in wanted:
            if name not in schema.names:
                raise SpecError(f"{path} has no column {name!r}; it has {_named(schema)}")
        table = dataset.read(columns=wanted, use_threads=False)
        latents = _latents(table, path)
    except (pa.ArrowException, OSError, ValueError) as error:
        # Damaged files, names that are not UTF-8, an invalid shape in the metadata.
        reason = str(error).splitlines() or [type(error).__name__]
        raise SpecError(f"{path} is no Parquet of latents: {reason[0]}") from error
    if score is None:
        return latents, np.zeros(len(latents), dtype=np.float32)
    column = table[score]
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise SpecError(f"{path}: column {score!r} holds {column.type}, not numbers")
    return latents, column.cast(pa.float32(), safe=False).to_numpy()


def _latents(table: pa.Table, path: Path) -> FloatArray:
    kind = table.schema.field("latent").type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
        raise SpecError(f"{path}: column latent holds {kind}, not lists of numbers of one length")
    if table["latent"].null_count or not table.num_rows:
        raise SpecError(f"{path}: column latent is empty somewhere")
    shape: tuple[int, ...] = (kind.list_size,)
    if b"shape" in (table.schema.field("latent").metadata or {}):
        shape = latent_shape(table.schema)
    values = table["latent"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32).reshape(table.num_rows, *shape)


def _named(schema: pa.Schema) -> str:
    return ", ".join(schema.names[:20]) or "none"
