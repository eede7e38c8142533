"""Rejects: inputs that gave no row, whatever operation they were meant for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from restyle.core.errors import RejectReason
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.datasets import REJECTS, encode, reject_schema
from restyle.pipeline.ledger.manifest import Unit


@dataclass(frozen=True)
class Reject:
    """One input that gave no row: the columns of ``rejects/``."""

    image_id: str
    source: str
    stage: str
    reason: RejectReason
    message: str
    revision: int = 1


def reject_table(rejects: Sequence[Reject], fingerprint: str) -> pa.Table:
    """Rows of ``rejects``.

    Args:
        rejects: in the order of the rows.
        fingerprint: of the output's settings.
    """
    columns = {
        "image_id": [reject.image_id for reject in rejects],
        "revision": [reject.revision for reject in rejects],
        "source": [reject.source for reject in rejects],
        "stage": [reject.stage for reject in rejects],
        "reason": [str(reject.reason) for reject in rejects],
        "message": [reject.message for reject in rejects],
    }
    return pa.table(columns, schema=reject_schema(fingerprint))


def rejected_unit(
    unit: Unit, stage: str, reason: RejectReason, message: str, fingerprint: str
) -> EncodedUnit:
    """A unit all of whose inputs are rejected for the same reason.

    Args:
        unit: the unit.
        stage: that rejects them.
        reason: why.
        message: the same in a sentence.
        fingerprint: of the output's settings.
    """
    rejects = [
        Reject(image.image_id, image.source, stage, reason, message, image.revision)
        for image in unit.images
    ]
    return EncodedUnit(
        unit=unit.name,
        images=len(rejects),
        faces=0,
        rejects={str(reason): len(rejects)},
        files={REJECTS: (encode(reject_table(rejects, fingerprint)), len(rejects))},
        metrics={},
        seconds={},
    )
