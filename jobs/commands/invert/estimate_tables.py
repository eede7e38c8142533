"""An estimate on the terminal, and as a JSON document."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from restyle.core.shown_text import plural
from restyle.jobs.display.progress import duration
from restyle.jobs.display.terminal import aligned, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from restyle.core.metrics.bootstrap import Interval
    from restyle.pipeline.estimation.fleets import Fleet
    from restyle.pipeline.estimation.job_estimate import Estimate

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_THOUSAND = 1000


def show_estimate(found: Estimate) -> None:
    """Print an estimate: what was sampled, times, bytes, rejects, and what it cannot know."""
    for line in [*_head(found), "", *_times(found), "", *_counts(found)]:
        say(line)
    for line in found.unknown:
        say(f"not known: {line}")


def estimate_document(found: Estimate) -> dict[str, Any]:
    """The estimate as a JSON document; an interval that cannot be told has nulls."""
    return {
        "inputs": _plain(found.inputs),
        "input_bytes": round(found.input_bytes),
        "shards": {"found": found.shards.found, "opened": found.shards.opened},
        "sample": {
            "inputs": found.sampled,
            "units": found.units,
            "seed": found.seed,
            "device": found.device,
            "megapixels": found.megapixels,
        },
        "here": _fleet(found.here),
        "phases": {name: round(seconds, 3) for name, seconds in found.phases.items()},
        "seconds_per_input": {
            "alignment_core": _plain(found.rates.align),
            "inversion_worker": (
                None if found.rates.invert is None else _plain(found.rates.invert)
            ),
        },
        "workers": [_fleet(fleet) for fleet in found.workers],
        "machines": [_fleet(fleet) for fleet in found.machines],
        "currency": found.currency or None,
        "faces": _plain(found.faces),
        "rejects": {reason: _plain(count) for reason, count in found.rejects.items()},
        "other_rejects_at_most": round(found.unseen, 3),
        "bytes": {dataset: _plain(size) for dataset, size in found.written.items()},
        "other_bytes": round(found.others),
        "total_bytes": round(found.total_bytes),
        "not_known": found.unknown,
    }


def _fleet(fleet: Fleet) -> dict[str, Any]:
    return {
        "name": fleet.name,
        "seconds": _plain(fleet.seconds),
        "hours": _plain(fleet.seconds, 3600),
        "bound": fleet.bound,
        "alignment_workers": fleet.aligners,
        "inversion_workers": fleet.inverters,
        "core_hours": _plain(fleet.core_hours),
        "gpu_hours": _plain(fleet.gpu_hours),
        "money": None if fleet.money is None else _plain(fleet.money),
    }


def _plain(interval: Interval, by: float = 1.0) -> dict[str, float | None]:
    ends = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: round(end / by, 6) if math.isfinite(end) else None for name, end in ends.items()}


def _head(found: Estimate) -> Iterator[str]:
    inputs = found.inputs
    size = f", {_bytes(found.input_bytes)}" if found.input_bytes else ""
    if found.shards.found:
        size += f", in {plural(found.shards.found, 'shard')} ({found.shards.opened} opened)"
    yield (
        f"{_with(inputs, _count)} inputs{size}; measured {found.sampled:,} of them at random in "
        f"{plural(found.units, 'unit')} (seed {found.seed}) on {found.device}"
    )
    if found.megapixels:
        low, middle, high = found.megapixels
        yield f"megapixels: {middle:.2g} in the middle, {low:.2g} to {high:.2g} in nine of ten"
    phases = found.phases
    parts = ", ".join(
        f"{duration(phases[name])} {name}"
        for name in ("planning", "starting", "computing", "ending")
    )
    yield (
        f"{found.here.name}: {_with(found.here.seconds, duration)}, of it {parts}; "
        f"{found.here.bound} bounds it"
    )


def _times(found: Estimate) -> Iterator[str]:
    rows = [["by", "time", "bound by", "core-hours", "GPU-hours", found.currency]]
    for fleet in [found.here, *found.workers, *found.machines]:
        row = [fleet.name, _with(fleet.seconds, duration), fleet.bound]
        row += [f"{fleet.core_hours.value:,.3g}"]
        row += [f"{fleet.gpu_hours.value:,.3g}" if fleet.gpus else "-"]
        rows.append([*row, "" if fleet.money is None else _with(fleet.money, _price)])
    yield from aligned(rows)


def _counts(found: Estimate) -> Iterator[str]:
    rows = [["written", "expected"]]
    rows += [[dataset, _with(size, _bytes)] for dataset, size in found.written.items()]
    rows += [["ledger and report", _bytes(found.others)], ["in all", _bytes(found.total_bytes)]]
    rows += [["faces", _with(found.faces, _count)]]
    rows += [[f"rejected, {name}", _with(count, _count)] for name, count in found.rejects.items()]
    if found.unseen:
        rows.append(["rejected otherwise", f"0 to {_count(found.unseen)}"])
    yield from aligned(rows)


def _with(interval: Interval, shown: Callable[[float], str]) -> str:
    value, low, high = interval.value, interval.low, interval.high
    if not math.isfinite(low) or not math.isfinite(high):
        return f"{shown(value)} (?)"
    return shown(value) if low == high else f"{shown(value)} ({shown(low)} to {shown(high)})"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _price(value: float) -> str:
    return f"{value:,.2f}"


def _bytes(value: float) -> str:
    """Bytes with a decimal prefix, as ``7.1 MB``."""
    power = 0
    while value >= _THOUSAND and power < len(_UNITS) - 1:
        value, power = value / _THOUSAND, power + 1
    return f"{value:,.0f} {_UNITS[0]}" if not power else f"{value:.3g} {_UNITS[power]}"
