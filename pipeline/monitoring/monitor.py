"""What watches a run while it lasts, and tells of its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from restyle.core.errors import RestyleError
from restyle.pipeline.accounting.run_record import versions
from restyle.pipeline.listener import Interrupted, Listener
from restyle.pipeline.monitoring.meter import Meter
from restyle.pipeline.monitoring.notification import Recipient, recipient_of
from restyle.pipeline.monitoring.traces import are_wanted, traced
from restyle.pipeline.storage.addresses import shown_uri
from restyle.pipeline.storage.url_secrets import text_without_secrets

LOOPBACK = "127.0.0.1"

_MOST = 500


@dataclass(frozen=True)
class Monitoring:
    """How a run is watched.

    Attributes:
        metrics_port: port on which Prometheus finds the run's measures, 0 for any; None for none.
        metrics_host: address to listen on.
        notify: who is told of the run's end: a URL, a command, or ``env:NAME`` for a variable with
            either; None for nobody.
    """

    metrics_port: int | None = None
    metrics_host: str = LOOPBACK
    notify: str | None = None


@contextlib.contextmanager
def monitored(monitoring: Monitoring, listener: Listener, out: str = "") -> Iterator[Meter]:
    """Context of a run that is watched; gives the meter that it reports to.

    Args:
        monitoring: how it is watched.
        listener: receives the events of the run.
        out: path or URI of the output.

    Raises:
        SpecError: the port of the metrics cannot be listened on, or nobody can be told.
    """
    meter = Meter(listener)
    with contextlib.ExitStack() as watching:
        if monitoring.notify is not None:
            told = recipient_of(monitoring.notify)
            watching.enter_context(_told_of_the_end(told, meter, shown_uri(out)))
        if monitoring.metrics_port is not None:
            # Imported here, because few runs need it.
            from restyle.pipeline.monitoring.endpoint import endpoint

            host, port = monitoring.metrics_host, monitoring.metrics_port
            address = watching.enter_context(endpoint(meter.samples, host, port))
            meter.noted(f"metrics at {address}")
        if are_wanted():
            version = versions()["restyle-pipeline"]
            meter.traces = watching.enter_context(traced(shown_uri(out), version, meter.noted))
        yield meter


@contextlib.contextmanager
def _told_of_the_end(recipient: Recipient, meter: Meter, out: str) -> Iterator[None]:
    """Context whose end is told, however it comes; a notification that fails is noted."""
    # Imported here, because few runs need it.
    from restyle.pipeline.monitoring.sending import Ended, State, tell

    began = time.perf_counter()
    state: State = "complete"
    error = None
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        state = "interrupted"
        raise
    except Exception as failed:
        state, error = "failed", _line(failed)
        raise
    finally:
        figures = meter.figures
        ended = Ended(
            state=state,
            out=out,
            seconds=round(time.perf_counter() - began, 3),
            run=figures.info["run"] if figures else "",
            counts=figures.counts.model_dump() if figures and figures.counts else None,
            this_run=asdict(figures.this_run) if figures else None,
            error=error,
        )
        # Whoever presses Ctrl-C now does not want to wait for it; the run has ended as it has.
        with contextlib.suppress(KeyboardInterrupt):
            if failure := tell(recipient, ended):
                meter.noted(f"warning: {failure}")


def _line(error: Exception) -> str:
    """An error as a line without secrets."""
    text = " ".join(str(error).split())
    if not isinstance(error, RestyleError):
        text = f"{type(error).__name__}: {text}"
    return text_without_secrets(text)[:_MOST]
