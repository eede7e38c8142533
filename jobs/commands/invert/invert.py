"""``restyle invert``: invert images into latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restyle.core.errors import SpecError
from restyle.core.shown_text import plural
from restyle.jobs.commands.invert.estimate import PricesFile, show
from restyle.jobs.display.terminal import console, error_console
from restyle.jobs.spec import options
from restyle.jobs.spec.job_spec import JobSpec

if TYPE_CHECKING:
    from restyle.pipeline.execution.request import Request


@options.takes(*JobSpec.SECTIONS)
def invert(
    context: typer.Context,
    spec: options.Spec = None,
    plan_only: Annotated[
        bool,
        typer.Option("--plan-only", help="Plan, and estimate what is to be done; invert a sample."),
    ] = False,
    prices: PricesFile = None,
) -> None:
    """Invert images into latents, with reconstructions and metrics, as Parquet.

    The same command again continues where it stopped, and adds only inputs that are new.
    """
    request = options.spec_from(context, spec).request()
    if plan_only:
        _estimate(request, prices)
    elif prices is not None:
        raise SpecError("--prices is of --plan-only; add it, or leave --prices out")
    else:
        run(request)


def _estimate(request: Request, prices: Path | None) -> None:
    from restyle.pipeline.estimation.prices import read_prices

    known = None if prices is None else read_prices(prices)
    from restyle.pipeline.estimation.estimate import Wanted, estimate_planned

    show(lambda listener: estimate_planned(request, Wanted(prices=known), listener))


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
