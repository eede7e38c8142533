"""Tables of the datasets from the results of a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.core.errors import RejectReason
from restyle.core.imaging.encoding import ImageFormat
from restyle.core.metrics.registry import METRICS
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.datasets import (
    GENERATORS,
    LATENTS,
    RECONSTRUCTIONS,
    REJECTS,
    STEPS,
    WEIGHTS_FORMAT,
    column,
    encode,
    has_detectors,
    metric_names,
    schema,
)
from restyle.pipeline.ledger.entries import MetricSums
from restyle.pipeline.ledger.rejects import Reject, reject_table
from restyle.pipeline.ledger.settings import ResolvedSettings

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Columns = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """Results of N faces with encoded images.

    Attributes:
        crops: N crops.
        steps: number of steps of each face; optimisation and tuning are one each, the last.
        latents: [N, steps or 1, n_styles, style_dim]; the last one is the result, unless there
            is a best one.
        metrics: [N, steps] by name; values of the last step are repeated after an early stop.
        deltas: [N, steps], or None if ``steps`` is not saved.
        images: the kept steps of each face with their encoded images.
        best: the step of each face's result; empty for the last one.
        iterations: steps of optimisation of each face; empty if its rows do not tell.
        weights: differences of each face's generator, as safetensors; empty without tuning.
        step_seconds: [N, steps], each face's share of the time of its steps; None if it was not
            measured.
    """

    crops: Sequence[Crop]
    steps: Sequence[int]
    latents: FloatArray
    metrics: Mapping[str, FloatArray]
    deltas: FloatArray | None
    images: Sequence[Sequence[tuple[int, bytes]]]
    best: Sequence[int] = ()
    iterations: Sequence[int] = ()
    weights: Sequence[bytes] = ()
    step_seconds: FloatArray | None = None


def tables(
    aligned: AlignedUnit,
    batches: Sequence[Batch],
    settings: ResolvedSettings,
    latent_shape: tuple[int, int],
) -> dict[str, pa.Table]:
    """The rows of a unit.

    Args:
        aligned: the unit, for its rejects.
        batches: all of its faces, in order.
        settings: of the run.
        latent_shape: (n_styles, style_dim).

    Returns:
        Tables by dataset, without empty ones.
    """
    columns: dict[str, Columns] = {}
    if batches:
        columns[LATENTS] = _latent_columns(batches, settings, latent_shape)
        if settings.save_steps != "none":
            columns[STEPS] = _step_columns(batches, settings, latent_shape)
        if settings.reconstructions != "none":
            columns[RECONSTRUCTIONS] = _image_columns(batches, settings)
        if settings.pivotal is not None:
            columns[GENERATORS] = _weight_columns(batches)
    made = {
        dataset: pa.table(of, schema=schema(dataset, settings, latent_shape))
        for dataset, of in columns.items()
    }
    made[REJECTS] = reject_table(aligned.rejects, settings.fingerprint)
    return {dataset: table for dataset, table in made.items() if table.num_rows}


def metric_sums(batches: Sequence[Batch]) -> dict[str, MetricSums]:
    """Sums and counts of each metric at each step, over finite values."""
    sums = {}
    for name in batches[0].metrics if batches else ():
        values = np.concatenate([batch.metrics[name] for batch in batches]).astype(np.float64)
        finite = np.isfinite(values)
        sums[name] = MetricSums(
            total=tuple(np.where(finite, values, 0.0).sum(axis=0).tolist()),
            count=tuple(finite.sum(axis=0).tolist()),
        )
    return sums


def step_seconds(batches: Sequence[Batch]) -> tuple[float, ...]:
    """Seconds of each step, summed over the faces; empty if they were not measured for all."""
    parts = [batch.step_seconds for batch in batches if batch.step_seconds is not None]
    if not parts or len(parts) < len(batches):
        return ()
    return tuple(np.concatenate(parts).sum(axis=0, dtype=np.float64).tolist())


def worsened(batches: Sequence[Batch]) -> dict[str, tuple[int, ...]]:
    """Count the faces with a worse value of each metric one step later, as its ``worsened``."""
    counts = {}
    for name in batches[0].metrics if batches else ():
        values = np.concatenate([batch.metrics[name] for batch in batches])
        counts[name] = METRICS[name].worsened(values)
    return counts


def _latent_columns(
    batches: Sequence[Batch], settings: ResolvedSettings, shape: tuple[int, int]
) -> Columns:
    crops = [crop for batch in batches for crop in batch.crops]
    return {
        **_identity(crops),
        "latent": column(np.concatenate([_results(batch) for batch in batches]), shape),
        "steps": [taken for batch in batches for taken in batch.steps],
        "quad": column(np.stack([crop.quad for crop in crops]), (4, 2)),
        **{
            name: _metric(batches, name, _result_steps(batches, settings))
            for name in metric_names(settings)
        },
        **_found_by(crops, settings),
        **_optimization(batches, settings),
        "model": [f"{settings.model}@{settings.model_fingerprint[:12]}"] * len(crops),
    }


def _found_by(crops: Sequence[Crop], settings: ResolvedSettings) -> Columns:
    if not has_detectors(settings):
        return {}
    return {"detector": [crop.detector for crop in crops]}


def _results(batch: Batch) -> FloatArray:
    """Latents [N, n_styles, style_dim] of a batch."""
    if not batch.best:
        return batch.latents[:, -1]
    chosen: FloatArray = batch.latents[np.arange(len(batch.best)), np.asarray(batch.best) - 1]
    return chosen


def _optimization(batches: Sequence[Batch], settings: ResolvedSettings) -> Columns:
    columns: Columns = {}
    faces = sum(len(batch.crops) for batch in batches)
    if settings.best_step is not None:
        columns["best_step"] = [step for batch in batches for step in batch.best]
    if settings.start is not None:
        taken = [count for batch in batches for count in batch.iterations] or [0] * faces
        columns["iterations"] = taken
        columns["stopped_by"] = [
            "iterations" if count == settings.iterations else "target_loss" for count in taken
        ]
        columns["seed"] = [settings.seed] * faces
    if settings.pivotal is not None:
        columns["pivotal"] = [settings.pivotal] * faces
    return columns


def _weight_columns(batches: Sequence[Batch]) -> Columns:
    crops = [crop for batch in batches for crop in batch.crops]
    return {
        **_identity(crops),
        "format": [WEIGHTS_FORMAT] * len(crops),
        "weights": [weights for batch in batches for weights in batch.weights],
    }


def _step_columns(
    batches: Sequence[Batch], settings: ResolvedSettings, shape: tuple[int, int]
) -> Columns:
    taken = np.concatenate([np.asarray(batch.steps) for batch in batches])
    numbers = np.arange(1, settings.rows + 1, dtype=np.int16)
    rows = numbers <= taken[:, None]
    crops = [crop for batch in batches for crop in batch.crops]
    deltas = [batch.deltas for batch in batches if batch.deltas is not None]
    columns = {
        **_identity([crop for crop, times in zip(crops, taken, strict=True) for _ in range(times)]),
        "step": np.broadcast_to(numbers, rows.shape)[rows],
        **{name: _metric(batches, name, rows) for name in metric_names(settings)},
        "delta": np.concatenate(deltas)[rows],
    }
    if settings.save_steps == "latents":
        latents = np.concatenate([batch.latents for batch in batches])
        columns["latent"] = column(latents if rows.all() else latents[rows], shape)
    return columns


def image_format(settings: ResolvedSettings, step: int) -> ImageFormat:
    """The file format of a step's image."""
    # Step 0 is the encoder's input, from which edits and metrics are computed again.
    return "png" if step == 0 else settings.image_format or "png"


def _image_columns(batches: Sequence[Batch], settings: ResolvedSettings) -> Columns:
    rows = [
        (crop, step, image)
        for batch in batches
        for crop, images in zip(batch.crops, batch.images, strict=True)
        for step, image in images
    ]
    return {
        **_identity([crop for crop, _, _ in rows]),
        "step": [step for _, step, _ in rows],
        "format": [image_format(settings, step) for _, step, _ in rows],
        "image": [image for _, _, image in rows],
    }


def _identity(crops: Sequence[Crop]) -> Columns:
    return {
        "image_id": [crop.image_id for crop in crops],
        "revision": [crop.revision for crop in crops],
        "face": [crop.face for crop in crops],
        "source": [crop.source for crop in crops],
    }


def _result_steps(batches: Sequence[Batch], settings: ResolvedSettings) -> BoolArray:
    """The step [N, steps] of each face's result."""
    rows = np.zeros((sum(len(batch.crops) for batch in batches), settings.rows), dtype=np.bool_)
    best = [step for batch in batches for step in batch.best]
    rows[np.arange(len(rows)), np.array(best, dtype=int) - 1 if best else -1] = True
    return rows


def _metric(batches: Sequence[Batch], name: str, rows: BoolArray) -> pa.Array:
    """A metric at the selected steps [N, steps], ordered by face; null if it was not computed."""
    if name not in batches[0].metrics:
        return pa.nulls(int(rows.sum()), pa.float32())
    values = np.concatenate([batch.metrics[name] for batch in batches])[rows]
    # Metrics of faces are NaN in other domains. For any other metric, NaN is a failure.
    unmeasured = np.isnan(values) if METRICS[name].needs_faces else None
    return pa.array(values, pa.float32(), mask=unmeasured, from_pandas=False)


def encoded(
    aligned: AlignedUnit,
    batches: Sequence[Batch],
    settings: ResolvedSettings,
    latent_shape: tuple[int, int],
    seconds: dict[str, float],
) -> EncodedUnit:
    """Encode a unit for writing.

    Args:
        aligned: the unit, for its rejects.
        batches: all of its faces, in order.
        settings: of the run.
        latent_shape: (n_styles, style_dim).
        seconds: wall time of the stages so far.
    """
    files = {
        dataset: (encode(table), table.num_rows)
        for dataset, table in tables(aligned, batches, settings, latent_shape).items()
    }
    reasons = [str(reject.reason) for reject in aligned.rejects]
    return EncodedUnit(
        unit=aligned.unit,
        images=aligned.images,
        faces=len(aligned.crops),
        rejects={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        files=files,
        metrics=metric_sums(batches),
        worsened=worsened(batches),
        step_seconds=step_seconds(batches),
        seconds={"align": aligned.seconds, **aligned.parts, **seconds},
        notes=aligned.notes,
    )


def given_up(aligned: AlignedUnit, settings: ResolvedSettings, message: str) -> EncodedUnit:
    """A unit that repeatedly ends its worker: each input with crops becomes a reject.

    Args:
        aligned: the unit.
        settings: of the run.
        message: of the rejects.
    """
    lost: dict[str, Crop] = {}
    for crop in aligned.crops:
        lost.setdefault(crop.image_id, crop)
    rejects = [
        Reject(crop.image_id, crop.source, "invert", RejectReason.CRASHED, message, crop.revision)
        for crop in lost.values()
    ]
    without = replace(aligned, crops=[], rejects=[*aligned.rejects, *rejects])
    # Without faces the shape of latents is not used.
    return encoded(without, [], settings, (1, 1), {})
