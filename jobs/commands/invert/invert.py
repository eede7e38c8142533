"""``restyle invert``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from restyle.jobs.display.terminal import console, error_console
from restyle.jobs.spec import options

if TYPE_CHECKING:
    from restyle.pipeline.execution.request import Request


def invert(
    context: typer.Context,
    source: options.Source = None,
    out: options.Out = None,
    spec: options.Spec = None,
    input_format: options.Format = None,
    column: options.Column = None,
    model: options.Model = None,
    steps: options.Steps = None,
    tolerance: options.Tolerance = None,
    align: options.Align = None,
    faces: options.Faces = None,
    save_steps: options.SaveStepsOption = None,
    reconstructions: options.ReconstructionsOption = None,
    metrics: options.Metrics = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    batch_size: options.BatchSize = None,
    limit: options.Limit = None,
    max_reject_rate: options.MaxRejectRate = None,
    address: options.Address = None,
    align_actors: options.AlignActors = None,
    invert_actors: options.InvertActors = None,
    gpus_per_actor: options.GpusPerActor = None,
    executor: options.ExecutorOption = None,
    bootstrap: options.Bootstrap = None,
) -> None:
    """Invert images into latents, with reconstructions and metrics, as Parquet.

    The same command again continues where it stopped, and takes in only what is new.
    """
    # typer has put all of the above into the context, under the same names.
    run(options.spec_from(context, spec).request())


def run(request: Request, extras: Sequence[tuple[str, Callable[[], str]]] = ()) -> None:
    """Run a job with its progress shown, and print what came of it.

    Args:
        request: the job.
        extras: names and makers of what is written beside the report, which say where it is.
    """
    from restyle.jobs.display.progress import duration
    from restyle.jobs.display.tables import show_summary
    from restyle.jobs.display.termination import EndableDisplay
    from restyle.pipeline.inversion.run import invert_images

    with error_console() as errors, EndableDisplay(errors) as display:
        outcome = invert_images(request, display)
    lines = [("report", outcome.report), *((name, make()) for name, make in extras)]
    if outcome.images:
        lines.insert(0, ("this run", f"{outcome.images} inputs in {duration(outcome.seconds)}"))
    show_summary(console(), outcome.summary, lines)
