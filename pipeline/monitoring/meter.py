"""The meter of a run: the newest values of all measures, for whoever publishes them."""

from __future__ import annotations

import threading

from restyle.pipeline.ledger.records import UnitRecord
from restyle.pipeline.listener import Listener, Progress
from restyle.pipeline.monitoring.measures import RunFigures, Sample
from restyle.pipeline.monitoring.traces import Traces


class Meter(Listener):
    """Holds the newest values of a run's measures, and passes its events on. Thread-safe.

    Args:
        listener: receives the events of the run.

    Attributes:
        figures: the newest ones; None before the run has begun.
        traces: receives the run's units; None where nobody asks for it.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self.traces: Traces | None = None
        self.figures: RunFigures | None = None
        self._samples: list[Sample] = []
        self._stages: dict[str, tuple[int, int | None]] = {}

    def measured(self, figures: RunFigures) -> None:
        """Take the newest figures of the run."""
        samples = figures.samples()
        with self._lock:
            self.figures, self._samples = figures, samples

    def committed(self, record: UnitRecord) -> None:
        """Take a unit that was committed."""
        if self.traces is not None:
            self.traces.unit(record)

    def failed(self, unit: str, error: str) -> None:
        """Take a unit that failed and may be run again."""
        if self.traces is not None:
            self.traces.failed(unit, error)

    def samples(self) -> list[Sample]:
        """Return the newest values; none before the run has begun."""
        with self._lock:
            return self._samples + [
                Sample("restyle_stage_units", self._labels(stage, state), float(count))
                for stage, (working, waiting) in self._stages.items()
                for state, count in (("working", working), ("waiting", waiting))
                if count is not None
            ]

    def _labels(self, stage: str, state: str) -> dict[str, str]:
        out = "" if self.figures is None else self.figures.out
        return {"out": out, "stage": stage, "state": state}

    def noted(self, line: str) -> None:
        """Pass a message on."""
        self._listener.noted(line)

    def listed(self, inputs: int) -> None:
        """Pass the number of inputs found so far on."""
        self._listener.listed(inputs)

    def advanced(self, progress: Progress) -> None:
        """Pass the progress on."""
        self._listener.advanced(progress)

    def occupied(self, stage: str, working: int, waiting: int | None) -> None:
        """Take the number of units at a stage, and pass it on."""
        with self._lock:
            self._stages[stage] = working, waiting
        self._listener.occupied(stage, working, waiting)
