"""Schemas, schema version and encoding of an output's Parquet datasets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from restyle.core.errors import FatalError
from restyle.core.files import parse_json
from restyle.core.metrics.registry import find_metric
from restyle.core.shown_text import visible
from restyle.pipeline.ledger.settings import IDENTITY, ResolvedSettings

VERSION = 2
"""Version of the schemas, stored in every file's metadata; increases when a column changes."""

GROUP_BYTES = 16 * 2**20
"""Approximate size of a row group in bytes, the least that a reader has to read."""

LATENTS, STEPS, RECONSTRUCTIONS, REJECTS = "latents", "steps", "reconstructions", "rejects"
DATASETS = (LATENTS, STEPS, RECONSTRUCTIONS, REJECTS)

GENERATORS = "generators"
"""A further dataset, of outputs whose generator was tuned for each face."""

WEIGHTS_FORMAT = "safetensors-delta"
"""Format of a row of ``generators``: differences from the model's parameters, by name."""

_DEFINITION = b"definition"
"""Metadata key that only metric columns have."""

_ALWAYS = ("l2", "psnr", "ms_ssim", "lpips", "id_similarity")
"""Metrics that always have a column, null if they are not measured."""

_INPUT = [
    pa.field("image_id", pa.string(), nullable=False),
    # The rows of older revisions stay; the highest revision is the current one.
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


def datasets_of(settings: ResolvedSettings) -> tuple[str, ...]:
    """Return the datasets of an output with these settings."""
    return DATASETS if settings.pivotal is None else (*DATASETS, GENERATORS)


def schema(dataset: str, settings: ResolvedSettings, latent_shape: tuple[int, int]) -> pa.Schema:
    """Return the schema of one dataset.

    Args:
        dataset: one of :func:`datasets_of`.
        settings: settings of the output; they determine the metric columns, and whether ``steps``
            has latents.
        latent_shape: number of styles and length of each.

    Returns:
        The schema, with version and shapes in its metadata.
    """
    fields = {
        LATENTS: lambda: [
            *_IDENTITY,
            _latent(latent_shape),
            pa.field("steps", pa.int16(), nullable=False),
            _fixed("quad", pa.float64(), (4, 2)),
            *_metrics(settings),
            *_detectors(settings),
            *_optimization(settings),
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
        GENERATORS: lambda: [
            *_IDENTITY,
            pa.field("format", pa.string(), nullable=False),
            pa.field("weights", pa.large_binary(), nullable=False),
        ],
    }[dataset]()
    return pa.schema(fields, _marks(dataset, settings.fingerprint))


def reject_schema(fingerprint: str) -> pa.Schema:
    """Return the schema of ``rejects``, which is the same for every operation.

    Args:
        fingerprint: the fingerprint of the output's settings.
    """
    return pa.schema(_REJECT, _marks(REJECTS, fingerprint))


def _marks(dataset: str, fingerprint: str) -> dict[str, str]:
    return {
        "restyle.dataset": dataset,
        "restyle.version": str(VERSION),
        "restyle.fingerprint": fingerprint,
    }


def has_detectors(settings: ResolvedSettings) -> bool:
    """Whether ``latents`` says which detector found each face.

    Only where it may be another one from face to face; elsewhere the settings tell.
    """
    return settings.detector == "auto"


def metric_names(settings: ResolvedSettings) -> tuple[str, ...]:
    """Return the metrics that have a column in an output with these settings."""
    return tuple(dict.fromkeys((*_ALWAYS, *settings.metrics)))


def metric_columns(file_schema: pa.Schema) -> list[str]:
    """Return the metrics that a file has columns for, including metrics not installed here."""
    return [field.name for field in file_schema if _DEFINITION in (field.metadata or {})]


def latent_shape(file_schema: pa.Schema) -> tuple[int, int]:
    """Return number of styles and length of each, from a schema; (0, 0) without latents.

    Raises:
        ValueError: the shape is missing in the metadata or contradicts the column's type.
    """
    if "latent" not in file_schema.names:
        return 0, 0
    field = file_schema.field("latent")
    shape = parse_json((field.metadata or {}).get(b"shape", b"null"))
    if not isinstance(shape, list) or len(shape) != 2 or {*map(type, shape)} != {int}:
        raise ValueError("the latent column does not say its shape")
    if shape[0] * shape[1] != field.type.list_size:
        raise ValueError(f"the latent column holds {field.type}, its metadata says {shape}")
    return shape[0], shape[1]


def encode(table: pa.Table) -> bytes:
    """Encode a table as one Parquet file, with row groups of about :data:`GROUP_BYTES`.

    Returns:
        The bytes of the file.

    Raises:
        FatalError: the table has a non-finite number in a column that does not allow it.
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
        # A null is a value that was not measured, so it is allowed.
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
    """Return the arguments for pyarrow's Parquet writer: zstd for all columns except latents.

    Compression would shrink latents by only 1 to 8 percent and make reading them ten times slower;
    :mod:`restyle.pipeline.results.latent_pages` reads uncompressed latents directly into an array.
    """
    repeated = [name for name in columns.names if name not in ("latent", "image", "weights")]
    compression = {
        f"{field.name}.list.element" if pa.types.is_fixed_size_list(field.type) else field.name: (
            "none" if field.name == "latent" else "zstd"
        )
        for field in columns
    }
    options: dict[str, Any] = {"compression": compression, "use_dictionary": repeated}
    # One page per row group of latents, so that their reader has few pages to locate.
    return options | ({"data_page_size": 2 * GROUP_BYTES} if "latent" in columns.names else {})


def column(values: Any, shape: tuple[int, ...]) -> pa.Array:
    """Convert a numpy array to a fixed-size list column, without copying.

    Args:
        values: numpy array of shape ``(rows, *shape)``.
        shape: shape of one row.

    Returns:
        An array of ``rows`` lists with the product of ``shape`` values each.
    """
    size = 1
    for side in shape:
        size *= side
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=_list_of(flat.type, size))


def _list_of(element: pa.DataType, size: int) -> pa.DataType:
    return pa.list_(pa.field("element", element, nullable=False), size)


def _fixed(name: str, element: pa.DataType, shape: tuple[int, int]) -> pa.Field:
    # Not nullable, because a null would misalign readers that flatten the column.
    return pa.field(
        name,
        _list_of(element, shape[0] * shape[1]),
        nullable=False,
        metadata={"shape": json.dumps(shape)},
    )


def _latent(shape: tuple[int, int]) -> pa.Field:
    return _fixed("latent", pa.float32(), shape)


def _detectors(settings: ResolvedSettings) -> list[pa.Field]:
    return [pa.field("detector", pa.string(), nullable=False)] if has_detectors(settings) else []


def _optimization(settings: ResolvedSettings) -> list[pa.Field]:
    """How a face's latent came about, where that may differ from face to face."""
    fields = []
    if settings.best_step is not None:
        fields.append(pa.field("best_step", pa.int16(), nullable=False))
    if settings.start is not None:
        fields += [
            pa.field("iterations", pa.int32(), nullable=False),
            # What ended the optimisation: iterations, target_loss.
            pa.field("stopped_by", pa.string(), nullable=False),
            pa.field("seed", pa.int64(), nullable=False),
        ]
    if settings.pivotal is not None:
        fields.append(pa.field("pivotal", pa.int32(), nullable=False))
    return fields


def _metrics(settings: ResolvedSettings) -> list[pa.Field]:
    return [
        pa.field(name, pa.float32(), metadata={_DEFINITION: _definition(name, settings)})
        for name in metric_names(settings)
    ]


def _definition(name: str, settings: ResolvedSettings) -> str:
    if name == IDENTITY and settings.identity is not None:
        return f"cosine of embeddings (512-d) of {settings.identity}"
    metric = find_metric(name)
    return "" if metric is None else metric.definition
