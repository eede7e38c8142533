"""Reading latents and scores from Parquet, for fitting directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from restyle.core.errors import SpecError, first_line_of
from restyle.pipeline.ledger.datasets import latent_shape

FloatArray = npt.NDArray[np.float32]


def read_labelled(path: Path, score: str | None) -> tuple[FloatArray, FloatArray]:
    """Read the column ``latent`` and a column of numbers.

    Args:
        path: a Parquet file or a folder of them, such as ``OUT/latents``.
        score: the column of numbers, or None.

    Returns:
        float32 [N, style_dim], or [N, n_styles, style_dim] if the column's metadata has the shape,
        as from ``restyle invert``, or its lists are nested; and float32 [N], NaN for missing
        numbers.

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
        raise SpecError(f"{path} is no Parquet of latents: {first_line_of(error)}") from error
    if score is None:
        return latents, np.zeros(len(latents), dtype=np.float32)
    return latents, numbers(table[score], f"{path}: column {score!r}")


def numbers(column: pa.ChunkedArray, what: str) -> FloatArray:
    """Return a column of scores as float32 [N], NaN for missing ones; truth values as 0 and 1.

    Args:
        column: of any type of number.
        what: its name, for the message.

    Raises:
        SpecError: the column holds no numbers.
    """
    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not (is_number or pa.types.is_boolean(kind) or pa.types.is_decimal(kind)):
        raise SpecError(f"{what} holds {kind}, not numbers")
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return np.asarray(values, dtype=np.float32)


def _latents(table: pa.Table, path: Path) -> FloatArray:
    """Return the latents, in the shape of the metadata or of the nested lists.

    Programs write lists of one length as fixed-size lists, as lists, or as large lists.
    """
    field, column = table.schema.field("latent"), table["latent"].combine_chunks()
    if column.null_count or not table.num_rows:
        raise SpecError(f"{path}: column latent is empty somewhere")
    shape: list[int] = []
    while _is_list(column.type):
        shape.append(_length(column, path))
        column = column.flatten()
    if not shape or not pa.types.is_floating(column.type):
        raise SpecError(f"{path}: column latent holds {field.type}, not lists of numbers")
    if column.null_count:
        raise SpecError(f"{path}: column latent is empty somewhere")
    if b"shape" in (field.metadata or {}):
        shape = list(latent_shape(table.schema))
    values = column.to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32).reshape(table.num_rows, *shape)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )


def _length(column: pa.Array, path: Path) -> int:
    """Return the one length of the lists of a column."""
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise SpecError(f"{path}: column latent holds lists of unlike lengths")
    return int(lengths[0])


def _named(schema: pa.Schema) -> str:
    return ", ".join(schema.names[:20]) or "none"
