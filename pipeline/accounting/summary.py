"""Counts and metric means over an output, from its manifest and ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restyle.pipeline.ledger.entries import UnitRecord
    from restyle.pipeline.ledger.output import Output


@dataclass(frozen=True)
class Summary:
    """Progress and statistics of an output.

    Attributes:
        units: Number of planned units.
        pending_units: Number of planned units without a ledger entry.
        images: Number of planned inputs. A changed input counts once per revision; a rejected
            input that was retried counts once.
        pending_images: Number of inputs in pending units.
        faces: Number of rows in the first dataset, ``latents`` for an inversion.
        rejects: Number of rejected inputs by reason, the most frequent first.
        metrics: Mean of each metric at each step; None if no face has a value.
        seconds: Wall time of each stage in seconds, summed over all units.
    """

    units: int
    pending_units: int
    images: int
    pending_images: int
    faces: int
    rejects: dict[str, int]
    metrics: dict[str, list[float | None]]
    seconds: dict[str, float]

    @property
    def rejected(self) -> int:
        """Number of rejected inputs."""
        return sum(self.rejects.values())

    @property
    def done_images(self) -> int:
        """Number of inputs in committed units."""
        return self.images - self.pending_images


def summarise(output: Output) -> Summary:
    """Compute the summary of an output from its manifest and ledger."""
    units, records = output.manifest.units, output.records()
    done = {record.unit for record in records}
    pending = [unit for unit in units if unit.name not in done]
    rejects: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for record in records:
        rejects.update(record.rejects)
        seconds.update(record.seconds)
    return Summary(
        units=len(units),
        pending_units=len(pending),
        images=sum(unit.images for unit in units) - sum(record.dropped for record in records),
        pending_images=sum(unit.images for unit in pending),
        faces=sum(record.faces for record in records),
        rejects=dict(rejects.most_common()),
        metrics={name: _means(records, name) for name in _names(records)},
        seconds={name: round(value, 3) for name, value in sorted(seconds.items())},
    )


def _names(records: Sequence[UnitRecord]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record.metrics))


def _means(records: Sequence[UnitRecord], name: str) -> list[float | None]:
    sums = [record.metrics[name] for record in records if name in record.metrics]
    totals = [sum(values) for values in zip(*(each.total for each in sums), strict=True)]
    counts = [sum(values) for values in zip(*(each.count for each in sums), strict=True)]
    return [total / count if count else None for total, count in zip(totals, counts, strict=True)]
