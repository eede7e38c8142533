"""The Parquet datasets of an output: explicit schemas, their version, and their encoding."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from restyle.core.errors import FatalError
from restyle.core.metrics.registry import find_metric
from restyle.core.shown_text import visible
from restyle.pipeline.ledger.settings import ResolvedSettings

VERSION = 2
"""Rises whenever a column changes; stands in every file's metadata."""

GROUP_BYTES = 16 * 2**20
"""About as much a row group holds, which is what a reader of a few rows has to read."""

LATENTS, STEPS, RECONSTRUCTIONS, REJECTS = "latents", "steps", "reconstructions", "rejects"
DATASETS = (LATENTS, STEPS, RECONSTRUCTIONS, REJECTS)

_DEFINITION = b"definition"
"""In the metadata of a metric's column, and of no other."""

_ALWAYS = ("l2", "psnr", "ms_ssim", "lpips", "id_similarity")
"""Metrics that have a column also where they are not measured, in every output of this version."""

_INPUT = [
    pa.field("image_id", pa.string(), nullable=False),
    # Rows of an input that changed stay; the highest revision is what stands now.
    pa.field("revision", pa.int16(), nullable=False),
]
_IDENTITY = [
    *_INPUT,
    pa.field("face", pa.int16(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
]
_REJECT = [
    *_INPUT,
    pa.field("source", pa.string(), nullable=False),
    pa.field("stage", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("message", pa.string(), nullable=False),
]


def schema(dataset: str, settings: ResolvedSettings, latent_shape: tuple[int, int]) -> pa.Schema:
    """The schema of one dataset.

    Args:
        dataset: one of :data:`DATASETS`.
        settings: of the run; they decide whether ``steps`` has a latent.
        latent_shape: number of styles and their length.

    Returns:
        The schema with version and shapes in its metadata.
    """
    fields = {
        LATENTS: lambda: [
            *_IDENTITY,
            _latent(latent_shape),
            pa.field("steps", pa.int16(), nullable=False),
            _fixed("quad", pa.float64(), (4, 2)),
            *_metrics(settings),
            pa.field("model", pa.string(), nullable=False),
        ],
        STEPS: lambda: [
            *_IDENTITY,
            pa.field("step", pa.int16(), nullable=False),
            *_metrics(settings),
            pa.field("delta", pa.float32(), nullable=False),
            *([_latent(latent_shape)] if settings.save_steps == "latents" else []),
        ],
        RECONSTRUCTIONS: lambda: [
            *_IDENTITY,
            pa.field("step", pa.int16(), nullable=False),
            pa.field("format", pa.string(), nullable=False),
            pa.field("image", pa.binary(), nullable=False),
        ],
        REJECTS: lambda: _REJECT,
    }[dataset]()
    return pa.schema(fields, _marks(dataset, settings.fingerprint))


def reject_schema(fingerprint: str) -> pa.Schema:
    """The schema of ``rejects``, which outputs of every operation have.

    Args:
        fingerprint: of the output's settings.
    """
    return pa.schema(_REJECT, _marks(REJECTS, fingerprint))


def _marks(dataset: str, fingerprint: str) -> dict[str, str]:
    return {
        "restyle.dataset": dataset,
        "restyle.version": str(VERSION),
        "restyle.fingerprint": fingerprint,
    }


def metric_names(settings: ResolvedSettings) -> tuple[str, ...]:
    """The metrics that have a column in the datasets of a run."""
    return tuple(dict.fromkeys((*_ALWAYS, *settings.metrics)))


def metric_columns(file_schema: pa.Schema) -> list[str]:
    """The metrics that a file has columns for, whether they are installed here or not."""
    return [field.name for field in file_schema if _DEFINITION in (field.metadata or {})]


def latent_shape(file_schema: pa.Schema) -> tuple[int, int]:
    """Number of styles and their length, from a file's metadata; (0, 0) without a latent.

    Raises:
        ValueError: the metadata is missing or contradicts the column's type.
    """
    if "latent" not in file_schema.names:
        return 0, 0
    field = file_schema.field("latent")
    shape = json.loads((field.metadata or {}).get(b"shape", b"null"))
    if not isinstance(shape, list) or len(shape) != 2 or {*map(type, shape)} != {int}:
        raise ValueError("the latent column does not say its shape")
    if shape[0] * shape[1] != field.type.list_size:
        raise ValueError(f"the latent column holds {field.type}, its metadata says {shape}")
    return shape[0], shape[1]


def encode(table: pa.Table) -> bytes:
    """A table as one Parquet file, in row groups of a few megabytes.

    Raises:
        FatalError: it holds numbers that are not finite; nothing of it may be committed.
    """
    _check_finite(table)
    target = pa.BufferOutputStream()
    rows = max(1, table.num_rows * GROUP_BYTES // max(table.nbytes, 1))
    pq.write_table(table, target, row_group_size=rows, **parquet_options(table.schema))
    data: bytes = target.getvalue().to_pybytes()
    return data


def _check_finite(table: pa.Table) -> None:
    for name, values in zip(table.column_names, table.columns, strict=True):
        size = getattr(values.type, "list_size", 1)
        flat = pc.list_flatten(values) if pa.types.is_fixed_size_list(values.type) else values
        if not pa.types.is_floating(flat.type):
            continue
        allowed = pc.is_finite(flat)
        metric = find_metric(name)
        if metric is not None and metric.may_be_infinite:
            allowed = pc.or_(allowed, pc.is_inf(flat))
        # Nulls are values that were not computed.
        wrong = np.flatnonzero(~pc.fill_null(allowed, fill_value=True).to_numpy())
        if wrong.size:
            rows = np.unique(wrong // size)
            raise FatalError(
                f"{name} is not finite in {len(rows)} of {table.num_rows} rows{_of(table, rows)}; "
                "nothing of their unit is committed: the model's weights or its precision are at "
                "fault, try --dtype fp32 or another checkpoint"
            )


def _of(table: pa.Table, rows: npt.NDArray[np.int_]) -> str:
    if "source" not in table.column_names:
        return ""
    return f", the first is of {visible(table['source'][int(rows[0])].as_py())}"


def parquet_options(columns: pa.Schema) -> dict[str, Any]:
    """How pyarrow is to write these columns: zstd, except for latents.

    Those are as good as noise to a compressor, which takes 1 to 8 percent off and makes reading
    them ten times slower; as they are,
    :mod:`restyle.pipeline.results.latent_pages` reads them into place.
    """
    repeated = [name for name in columns.names if name not in ("latent", "image")]
    compression = {
        f"{field.name}.list.element" if pa.types.is_fixed_size_list(field.type) else field.name: (
            "none" if field.name == "latent" else "zstd"
        )
        for field in columns
    }
    options: dict[str, Any] = {"compression": compression, "use_dictionary": repeated}
    # One page for a row group's latents, that there be few places to look for them.
    return options | ({"data_page_size": 2 * GROUP_BYTES} if "latent" in columns.names else {})


def column(values: Any, shape: tuple[int, ...]) -> pa.Array:
    """Rows of a fixed shape as a fixed-size list, without copying.

    Args:
        values: numpy array of ``len(rows)`` times ``shape``.
        shape: of one row.
    """
    size = 1
    for side in shape:
        size *= side
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=_list_of(flat.type, size))


def _list_of(element: pa.DataType, size: int) -> pa.DataType:
    return pa.list_(pa.field("element", element, nullable=False), size)


def _fixed(name: str, element: pa.DataType, shape: tuple[int, int]) -> pa.Field:
    # Never null: a null would misalign every reader that flattens the column.
    return pa.field(
        name,
        _list_of(element, shape[0] * shape[1]),
        nullable=False,
        metadata={"shape": json.dumps(shape)},
    )


def _latent(shape: tuple[int, int]) -> pa.Field:
    return _fixed("latent", pa.float32(), shape)


def _metrics(settings: ResolvedSettings) -> list[pa.Field]:
    return [
        pa.field(name, pa.float32(), metadata={_DEFINITION: _definition(name)})
        for name in metric_names(settings)
    ]


def _definition(name: str) -> str:
    metric = find_metric(name)
    return "" if metric is None else metric.definition
