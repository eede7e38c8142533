"""Publication of a run's measures through Ray, whose nodes offer them to Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge

from restyle.pipeline.monitoring.measures import MEASURES, Sample


class RayMeasures:
    """Passes values on to Ray, which puts ``ray_`` before their names."""

    def __init__(self) -> None:
        self._metrics = {
            name: (Counter if measure.kind == "counter" else Gauge)(
                name, measure.text, ("out", *measure.labels)
            )
            for name, measure in MEASURES.items()
        }
        self._published: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def publish(self, samples: Sequence[Sample]) -> None:
        """Publish the newest values."""
        for sample in samples:
            metric, labels = self._metrics[sample.name], dict(sample.labels)
            if isinstance(metric, Gauge):
                metric.set(sample.value, labels)
                continue
            key = sample.name, frozenset(labels.items())
            grown = sample.value - self._published.get(key, 0.0)
            # Ray takes what a counter grows by, and refuses zero.
            if grown > 0:
                self._published[key] = sample.value
                metric.inc(grown, labels)
