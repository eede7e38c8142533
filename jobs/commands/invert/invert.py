"""``restyle invert``: invert images into latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from restyle.core.shown_text import plural
from restyle.jobs.display.terminal import console, error_console
from restyle.jobs.spec import options
from restyle.jobs.spec.job_spec import JobSpec

if TYPE_CHECKING:
    from restyle.pipeline.execution.request import Request


@options.takes(*JobSpec.SECTIONS)
def invert(context: typer.Context, spec: options.Spec = None) -> None:
    """Invert images into latents, with reconstructions and metrics, as Parquet.

    The same command again continues where it stopped, and adds only inputs that are new.
    """
    run(options.spec_from(context, spec).request())


def run(request: Request, extras: Sequence[tuple[str, Callable[[], str]]] = ()) -> None:
    """Run a job with a progress display, and print its result.

    Args:
        request: the job.
        extras: names of further files and functions that write them and return their location.
    """
    from restyle.jobs.display.next_commands import after_inversion, say_next
    from restyle.jobs.display.progress import duration
    from restyle.jobs.display.tables import show_summary
    from restyle.jobs.display.termination import EndableDisplay
    from restyle.pipeline.inversion.run import invert_images

    with error_console() as errors, EndableDisplay(errors) as display:
        outcome = invert_images(request, display)
    lines = [("report", outcome.report), *((name, make()) for name, make in extras)]
    if outcome.images:
        lines.insert(
            0, ("this run", f"{plural(outcome.images, 'input')} in {duration(outcome.seconds)}")
        )
    show_summary(console(), outcome.summary, lines)
    summary, model = outcome.summary, request.settings.model
    say_next(after_inversion(request.out, model, summary.faces, summary.rejects))
