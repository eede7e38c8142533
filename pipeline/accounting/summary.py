"""Counts and metric means over an output, from its manifest and ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from restyle.core.shown_text import plural
from restyle.core.stage_clock import ALIGNMENT
from restyle.pipeline.ledger.records import STARVED

if TYPE_CHECKING:
    from restyle.pipeline.ledger.entries import UnitRecord
    from restyle.pipeline.ledger.output import Output

_STAGES = ("align", "invert", "encode")

_WORDS = {
    "read": "reading files",
    "decode": "decoding",
    "detect": "detection",
    "landmarks": "fitting landmarks",
    "crop": "cropping",
}

# Share of waiting below which nothing is to be gained.
_WORTH = 0.15


@dataclass
class Tally:
    """Sums over committed units: of an output, or of what one run did.

    Attributes:
        units: Number of units.
        images: Number of their inputs, rejects included.
        faces: Number of rows in the first dataset, ``latents`` for an inversion.
        rejects: Number of rejected inputs by reason.
        seconds: Wall time of each stage in seconds, as of :class:`Summary`.
        retries: How often a unit was run again in a later round; not known of an output.
    """

    units: int = 0
    images: int = 0
    faces: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    retries: int = 0

    @classmethod
    def of(cls, records: Iterable[UnitRecord]) -> Self:
        """Add up units."""
        tally = cls()
        for record in records:
            tally.add(record)
        return tally

    def add(self, record: UnitRecord) -> None:
        """Add a unit."""
        self.units += 1
        self.images += record.images
        self.faces += record.faces
        for reason, count in record.rejects.items():
            self.rejects[reason] = self.rejects.get(reason, 0) + count
        for stage, seconds in record.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def rejected(self) -> int:
        """Number of rejected inputs."""
        return sum(self.rejects.values())

    @property
    def rounded_seconds(self) -> dict[str, float]:
        """Seconds of each stage as records have them, to the millisecond."""
        return {name: round(value, 3) for name, value in sorted(self.seconds.items())}


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
        seconds: Wall time of each stage in seconds, and of its parts, summed over all units; see
            :class:`restyle.pipeline.ledger.records.UnitRecord`.
        worsened: For each metric, number of faces with a worse value one step later, after each
            step but the last; units of earlier versions did not count them.
    """

    units: int
    pending_units: int
    images: int
    pending_images: int
    faces: int
    rejects: dict[str, int]
    metrics: dict[str, list[float | None]]
    seconds: dict[str, float]
    worsened: dict[str, list[int]]

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
    tally = Tally.of(records)
    return Summary(
        units=len(units),
        pending_units=len(pending),
        images=sum(unit.images for unit in units) - sum(record.dropped for record in records),
        pending_images=sum(unit.images for unit in pending),
        faces=tally.faces,
        rejects=dict(Counter(tally.rejects).most_common()),
        metrics={name: _means(records, name) for name in _names(records)},
        seconds=tally.rounded_seconds,
        worsened=worsened_in(records),
    )


def worsened_in(records: Sequence[UnitRecord]) -> dict[str, list[int]]:
    """Add up :attr:`Summary.worsened` over units."""
    counts: dict[str, list[int]] = {}
    for record in records:
        for name, values in record.worsened.items():
            so_far = counts.setdefault(name, [0] * len(values))
            counts[name] = [one + other for one, other in zip(so_far, values, strict=True)]
    return counts


def worsened_shown(counts: Mapping[str, Sequence[int]], faces: int) -> dict[str, str]:
    """Describe :attr:`Summary.worsened`, as in ``2 of 28 faces after step 3, 5 after step 4``.

    Args:
        counts: by metric.
        faces: number of faces.

    Returns:
        A text for each metric that got worse for any face.
    """
    shown = {}
    for name, values in counts.items():
        parts = [f"{count:,} after step {step}" for step, count in enumerate(values, 1) if count]
        if parts:
            first, *rest = parts
            count, _, when = first.partition(" ")
            shown[name] = ", ".join([f"{count} of {plural(faces, 'face')} {when}", *rest])
    return shown


def _names(records: Sequence[UnitRecord]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record.metrics))


def _means(records: Sequence[UnitRecord], name: str) -> list[float | None]:
    sums = [record.metrics[name] for record in records if name in record.metrics]
    totals = [sum(values) for values in zip(*(each.total for each in sums), strict=True)]
    counts = [sum(values) for values in zip(*(each.count for each in sums), strict=True)]
    return [total / count if count else None for total, count in zip(totals, counts, strict=True)]


def stage_seconds(seconds: Mapping[str, float]) -> str:
    """Describe the stages, as in ``align 9.1 s (decode 2.0, detect 6.5), invert 4.0 s``.

    Args:
        seconds: of each stage, see :class:`restyle.pipeline.ledger.records.UnitRecord`.

    Returns:
        Empty if nothing is known.
    """
    parts = [f"{name} {seconds[name]:.1f}" for name in ALIGNMENT if name in seconds]
    within = {"align": f" ({', '.join(parts)})" if parts else ""}
    return ", ".join(
        f"{stage} {seconds[stage]:.1f} s{within.get(stage, '')}"
        for stage in _STAGES
        if stage in seconds
    )


def bottleneck(seconds: Mapping[str, float]) -> str:
    """Say which stage makes the other wait, and what to do.

    Args:
        seconds: as for :func:`stage_seconds`.

    Returns:
        One sentence; empty if it is not known, as in outputs of earlier versions.
    """
    computing = seconds.get("invert", 0.0)
    if STARVED not in seconds or not computing:
        return ""
    share = seconds[STARVED] / (seconds[STARVED] + computing)
    if share < _WORTH:
        return f"inversion computes {1 - share:.0%} of the time: alignment keeps up with it"
    parts = {name: seconds[name] for name in ALIGNMENT if name in seconds}
    most = f", for {_WORDS[max(parts, key=lambda name: parts[name])]} above all" if parts else ""
    remedy = "add cores, or --align-actors on a cluster"
    return f"alignment keeps inversion waiting {share:.0%} of the time{most}; {remedy}"
