"""What inversion hands to the sink; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.ledger import MetricSums


@dataclass(frozen=True, eq=False)
class InvertedUnit:
    """A unit's rows, encoded.

    Attributes:
        unit: the unit's name.
        images: number of inputs.
        faces: rows in ``latents``.
        rejects: inputs without a row, by reason.
        files: Parquet bytes and number of rows by dataset; none without rows.
        metrics: sums of each metric.
        seconds: wall time by stage.
    """

    unit: str
    images: int
    faces: int
    rejects: dict[str, int]
    files: dict[str, tuple[bytes, int]]
    metrics: dict[str, MetricSums]
    seconds: dict[str, float]
