"""The endpoint that Prometheus scrapes, in the process of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from restyle.core.errors import SpecError
from restyle.pipeline.monitoring.measures import MEASURES, Sample


@contextlib.contextmanager
def endpoint(samples: Callable[[], Sequence[Sample]], host: str, port: int) -> Iterator[str]:
    """Context in which the values can be scraped; gives the address.

    Args:
        samples: returns the present values; called by other threads.
        host: address to listen on.
        port: of the endpoint; 0 for any that is free.

    Raises:
        SpecError: the address cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(_Samples(samples))
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, UnicodeError) as error:
        # A name that no server can have is no OSError.
        reason = getattr(error, "strerror", None) or "no name of a host"
        raise SpecError(
            f"--metrics-port {port}: {host} cannot be listened on there ({reason}); choose "
            "another --metrics-port or --metrics-host"
        ) from error
    try:
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{server.server_port}/metrics"
    finally:
        # Connections that are still open end with the process, since their threads are daemons.
        server.shutdown()
        server.server_close()
        thread.join()


class _Samples(Collector):
    """Gives the values that there are when it is asked."""

    def __init__(self, samples: Callable[[], Sequence[Sample]]) -> None:
        self._samples = samples

    def describe(self) -> Iterator[Metric]:
        """Give the measures without values, which a registry asks for once."""
        return iter(_families().values())

    def collect(self) -> Iterator[Metric]:
        """Give the measures that have values."""
        families = _families()
        for sample in self._samples():
            labels = [sample.labels[name] for name in ("out", *MEASURES[sample.name].labels)]
            families[sample.name].add_metric(labels, sample.value)
        return (family for family in families.values() if family.samples)


def _families() -> dict[str, CounterMetricFamily | GaugeMetricFamily]:
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    return {
        name: kinds[measure.kind](name, measure.text, labels=("out", *measure.labels))
        for name, measure in MEASURES.items()
    }
