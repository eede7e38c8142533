"""The measures of a run, by the names that Prometheus has them under.

Nothing is counted here: the values are those that ``run.json`` has at the end. Counters are of one
run, as ``this_run`` there; what begins with ``restyle_output_`` is of the whole output, as
``counts`` there, which includes earlier runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from restyle.core.errors import RejectReason
from restyle.pipeline.accounting.machine import WorkerUse
from restyle.pipeline.accounting.run_record import Counts
from restyle.pipeline.accounting.summary import Tally


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        name: as Prometheus has it.
        kind: a counter only grows while a run goes on.
        text: what it is, in a sentence.
        labels: names of its labels, beside ``out``, which every measure has.
    """

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    labels: tuple[str, ...] = ()


_WORKER = ("worker", "device")

MEASURES = {
    measure.name: measure
    for measure in (
        Measure("restyle_inputs_total", "counter", "Inputs this run accounted for."),
        Measure("restyle_faces_total", "counter", "Rows this run wrote to the first dataset."),
        Measure("restyle_rejects_total", "counter", "Inputs this run rejected.", ("reason",)),
        Measure("restyle_units_total", "counter", "Units this run committed."),
        Measure("restyle_retries_total", "counter", "Units this run had to run again."),
        Measure(
            "restyle_stage_seconds_total",
            "counter",
            "Seconds this run spent in each stage, summed over units.",
            ("stage",),
        ),
        Measure("restyle_worker_faces_total", "counter", "Faces a worker inverted.", _WORKER),
        Measure("restyle_worker_batches_total", "counter", "Batches it computed.", _WORKER),
        Measure(
            "restyle_worker_places_total",
            "counter",
            "Faces that fit into these batches; the share that was filled is their fill.",
            _WORKER,
        ),
        Measure(
            "restyle_worker_busy_ratio",
            "gauge",
            "Share of the time in which a worker had something to compute.",
            _WORKER,
        ),
        Measure(
            "restyle_worker_memory_peak_bytes",
            "gauge",
            "Peak of what a worker allocated: on the GPU, or of its process on a CPU.",
            _WORKER,
        ),
        Measure("restyle_output_inputs", "gauge", "Inputs of the output.", ("state",)),
        Measure("restyle_output_units", "gauge", "Units of the output.", ("state",)),
        Measure("restyle_output_faces", "gauge", "Rows of the output's first dataset."),
        Measure("restyle_output_rejects", "gauge", "Rejected inputs of the output.", ("reason",)),
        Measure(
            "restyle_stage_units",
            "gauge",
            "Units that wait for a stage, and that are in it.",
            ("stage", "state"),
        ),
        Measure(
            "restyle_run_info",
            "gauge",
            "1, with what this run is.",
            ("run", "operation", "model", "version"),
        ),
        Measure("restyle_run_started_seconds", "gauge", "Start of this run, in Unix time."),
        Measure(
            "restyle_run_advanced_seconds",
            "gauge",
            "When this run last began or committed something, in Unix time.",
        ),
    )
}


# A series that begins with the first reject would hide it from rate().
_NONE: dict[str, int] = {str(reason): 0 for reason in RejectReason}


@dataclass(frozen=True)
class Sample:
    """A value of a measure.

    Attributes:
        name: of the measure, in :data:`MEASURES`.
        labels: its values by name, ``out`` among them.
        value: in the measure's unit.
    """

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class RunFigures:
    """What a run knows of itself at a moment.

    Attributes:
        out: path or URI of the output, without credentials.
        info: values of the labels of ``restyle_run_info``.
        this_run: sums over the units that this run committed.
        counts: of the whole output; None before it was planned.
        used: what each worker has done.
        started: Unix time in seconds.
        advanced: Unix time in seconds of the last commit, or of the start.
    """

    out: str
    info: Mapping[str, str]
    this_run: Tally
    counts: Counts | None
    used: tuple[WorkerUse, ...] = ()
    started: float = 0.0
    advanced: float = 0.0

    def samples(self) -> list[Sample]:
        """Return the values of all measures but ``restyle_stage_units``."""
        return [
            Sample(name, {"out": self.out, **labels}, float(value))
            for name, labels, value in self._values()
        ]

    def _values(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        done = self.this_run
        yield "restyle_run_info", self.info, 1
        yield "restyle_run_started_seconds", {}, self.started
        yield "restyle_run_advanced_seconds", {}, self.advanced
        yield "restyle_inputs_total", {}, done.images
        yield "restyle_faces_total", {}, done.faces
        yield "restyle_units_total", {}, done.units
        yield "restyle_retries_total", {}, done.retries
        for reason, count in (_NONE | done.rejects).items():
            yield "restyle_rejects_total", {"reason": reason}, count
        for stage, seconds in done.rounded_seconds.items():
            yield "restyle_stage_seconds_total", {"stage": stage}, seconds
        for use in self.used:
            worker = {"worker": use.worker, "device": use.device}
            yield "restyle_worker_faces_total", worker, use.images
            yield "restyle_worker_batches_total", worker, use.batches
            yield "restyle_worker_places_total", worker, use.places
            yield "restyle_worker_busy_ratio", worker, use.busy
            yield "restyle_worker_memory_peak_bytes", worker, use.memory
        counts = self.counts
        if counts is not None:
            yield "restyle_output_faces", {}, counts.faces
            done_images = counts.images - counts.pending_images
            done_units = counts.units - counts.pending_units
            yield "restyle_output_inputs", {"state": "done"}, done_images
            yield "restyle_output_inputs", {"state": "pending"}, counts.pending_images
            yield "restyle_output_units", {"state": "done"}, done_units
            yield "restyle_output_units", {"state": "pending"}, counts.pending_units
            for reason, count in (_NONE | counts.rejects).items():
                yield "restyle_output_rejects", {"reason": reason}, count
