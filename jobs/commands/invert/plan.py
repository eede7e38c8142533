"""``restyle plan``."""

from __future__ import annotations

import os

import typer

from restyle.jobs.spec import options


def plan(
    context: typer.Context,
    source: options.Source = None,
    out: options.Out = None,
    spec: options.Spec = None,
    input_format: options.Format = None,
    column: options.Column = None,
    limit: options.Limit = None,
) -> None:
    """List the input and write the manifest, without computing anything.

    restyle invert plans too; this is for looking at a job before it costs something.
    """
    # typer has put all of the above into the context, under the same names.
    request = options.spec_from(context, spec).request()

    from rich.console import Console
    from rich.markup import escape

    from restyle.jobs.display.progress import ProgressDisplay
    from restyle.pipeline.inversion.input_plan import InputPlan, plan_only

    with (
        os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace") as error_stream,
        ProgressDisplay(Console(file=error_stream)) as display,
    ):
        asked = InputPlan(request.source, request.out, request.input, request.limit)
        outcome = plan_only(asked, display)
    planned = outcome.planned
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{planned.listed:,} inputs listed: {planned.new:,} new, {planned.changed:,} changed"
        + ("" if request.limit else f", {planned.vanished:,} vanished since they were planned")
    )
    console.print(
        f"{outcome.images:,} inputs in {outcome.units:,} units are planned, "
        f"{outcome.pending:,} are not done"
    )
    for name in planned.written:
        console.print(escape(f"{request.out.rstrip('/')}/{name}"))
