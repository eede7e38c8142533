"""What inversion hands to the sink; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from restyle.core.errors import RejectReason
from restyle.pipeline.inversion.aligner import AlignedUnit, Crop, Reject
from restyle.pipeline.inversion.rows import Batch, metric_sums, tables
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.datasets import encode
from restyle.pipeline.ledger.settings import ResolvedSettings


def encoded(
    aligned: AlignedUnit,
    batches: Sequence[Batch],
    settings: ResolvedSettings,
    latent_shape: tuple[int, int],
    seconds: dict[str, float],
) -> EncodedUnit:
    """A unit as it is to be written.

    Args:
        aligned: the unit, for its rejects.
        batches: all of its faces, in order.
        settings: of the run.
        latent_shape: number of styles and their length.
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
        seconds={"align": aligned.seconds, **seconds},
    )


def given_up(aligned: AlignedUnit, settings: ResolvedSettings, message: str) -> EncodedUnit:
    """A unit that nobody survives inverting: each input that gave crops is rejected.

    Args:
        aligned: the unit.
        settings: of the run.
        message: why, for the rows.
    """
    lost: dict[str, Crop] = {}
    for crop in aligned.crops:
        lost.setdefault(crop.image_id, crop)
    rejects = [
        Reject(crop.image_id, crop.source, "invert", RejectReason.CRASHED, message, crop.revision)
        for crop in lost.values()
    ]
    without = replace(aligned, crops=[], rejects=[*aligned.rejects, *rejects])
    # Without faces nothing depends on the shape of latents.
    return encoded(without, [], settings, (1, 1), {})
