"""OpenTelemetry traces of a run: one span for the run, and one for each unit that it commits.

They are sent where OpenTelemetry's own variables say; the extra ``otel`` has what sends them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from restyle.pipeline.ledger.records import UnitRecord
from restyle.pipeline.storage.url_secrets import text_without_secrets

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

PATIENCE = 10.0
"""Seconds that the last spans may take to be sent."""

_NANOSECONDS = 1_000_000_000


def are_wanted() -> bool:
    """Whether the environment says where traces go, and that there are some."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    is_none = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() == "none"
    where = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    return bool(where) and not is_off and not is_none


class Traces:
    """The spans of a run.

    Args:
        provider: of OpenTelemetry.
        out: path or URI of the output, without credentials.
    """

    def __init__(self, provider: TracerProvider, out: str) -> None:
        from opentelemetry import trace

        self._provider = provider
        self._tracer = provider.get_tracer("restyle")
        self._run = self._tracer.start_span("restyle run", attributes={"restyle.out": out})
        self._parent = trace.set_span_in_context(self._run)

    def unit(self, record: UnitRecord) -> None:
        """Add a unit that was committed now; its span is as long as its stages together."""
        end = time.time_ns()
        span = self._tracer.start_span(
            "unit",
            context=self._parent,
            start_time=end - int(record.wall_seconds * _NANOSECONDS),
            attributes={
                "restyle.unit": record.unit,
                "restyle.inputs": record.images,
                "restyle.faces": record.faces,
                "restyle.rejected": sum(record.rejects.values()),
                **{f"restyle.rejects.{name}": count for name, count in record.rejects.items()},
                **{f"restyle.seconds.{name}": value for name, value in record.seconds.items()},
            },
        )
        span.end(end)

    def failed(self, unit: str, error: str) -> None:
        """Add a unit that failed and may be run again."""
        said = {"restyle.unit": unit, "restyle.error": text_without_secrets(error)}
        self._run.add_event("unit failed", said)

    def end(self, error: str | None) -> None:
        """End the span of the run, and send what is left.

        Args:
            error: why it ended before its end; None if it did not.
        """
        from opentelemetry.trace import Status, StatusCode

        status = Status(StatusCode.OK) if error is None else Status(StatusCode.ERROR, error)
        self._run.set_status(status)
        self._run.end()
        # A thread, because a receiver that does not answer is tried again for longer than that.
        last = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(PATIENCE)


@contextlib.contextmanager
def traced(out: str, version: str, warn: Callable[[str], None]) -> Iterator[Traces | None]:
    """Context of a run whose spans are sent; gives None where they cannot be.

    Args:
        out: path or URI of the output, without credentials.
        version: of this package.
        warn: receives a line for the user if spans cannot be sent.
    """
    provider = _provider(version, warn)
    if provider is None:
        yield None
        return
    problems = _Problems()
    logger = logging.getLogger("opentelemetry")
    before = logger.propagate
    logger.addHandler(problems)
    logger.propagate = False
    traces = Traces(provider, out)
    error: str | None = "ended by an error"
    try:
        yield traces
        error = None
    finally:
        traces.end(error)
        logger.removeHandler(problems)
        logger.propagate = before
        if problems.first:
            warn(f"warning: traces were not all sent: {problems.first}")


def _provider(version: str, warn: Callable[[str], None]) -> TracerProvider | None:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        warn(
            "warning: the environment asks for traces, which need the extra otel "
            f"(pip install restyle-pipeline[otel]): {error}"
        )
        return None
    described = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in described
    own = {"service.version": version} | ({} if named else {"service.name": "restyle"})
    try:
        # Not at the exit of the process, which would wait for a receiver that does not answer.
        provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        warn(
            "warning: traces are not sent, because OpenTelemetry refuses a variable OTEL_...: "
            f"{text_without_secrets(str(error))}"
        )
        return None
    return provider


class _Problems(logging.Handler):
    """Keeps the first message of OpenTelemetry, which would be printed again and again.

    Attributes:
        first: in one line without secrets; empty for none.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message."""
        if not self.first:
            line = " ".join(record.getMessage().split())
            self.first = text_without_secrets(line)[:300]
