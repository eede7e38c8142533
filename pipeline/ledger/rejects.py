"""Rejects: inputs without a result, for every operation."""

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
    """One rejected input; the attributes are the columns of ``rejects/``."""

    image_id: str
    source: str
    stage: str
    reason: RejectReason
    message: str
    revision: int = 1


def reject_table(rejects: Sequence[Reject], fingerprint: str) -> pa.Table:
    """Return a table for ``rejects/``.

    Args:
        rejects: the rows, in order.
        fingerprint: the fingerprint of the output's settings.
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
    """Encode a unit whose inputs are all rejected for the same reason.

    Args:
        unit: the unit.
        stage: the stage that rejects the inputs.
        reason: the reason of the rejects.
        message: a sentence for the user that explains the reason.
        fingerprint: the fingerprint of the output's settings.
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
