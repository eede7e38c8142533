"""``restyle plan``: list the input and write the manifest."""

from __future__ import annotations

import typer

from restyle.core.shown_text import are, plural
from restyle.jobs.commands.look.inspection import AsJson
from restyle.jobs.display.terminal import emit, emit_json, error_console, say
from restyle.jobs.spec import options


@options.takes("input", "output.out", without=["input.max_reject_rate"])
def plan(context: typer.Context, spec: options.Spec = None, as_json: AsJson = False) -> None:
    """List the input and write the manifest, without computing anything.

    restyle invert plans too; this command shows the size of a job before it is run.
    """
    request = options.spec_from(context, spec).request()

    from restyle.jobs.display.progress import ProgressDisplay
    from restyle.pipeline.planning.input_plan import InputPlan, plan_only

    with error_console() as errors, ProgressDisplay(errors) as display:
        asked = InputPlan(request.source, request.out, request.input, request.limit)
        outcome = plan_only(asked, display)
    planned = outcome.planned
    written = [f"{request.out.rstrip('/')}/{name}" for name in planned.written]
    if as_json:
        emit_json(
            {
                "listed": planned.listed,
                "new": planned.new,
                "changed": planned.changed,
                # With a limit the rest of the input is not listed.
                "vanished": None if request.limit else planned.vanished,
                "inputs": outcome.images,
                "units": outcome.units,
                "pending": outcome.pending,
                "written": written,
            }
        )
        return
    say(
        f"{plural(planned.listed, 'input')} listed: {planned.new:,} new, "
        f"{planned.changed:,} changed"
        + ("" if request.limit else f", {planned.vanished:,} vanished since they were planned")
    )
    say(
        f"{plural(outcome.images, 'input')} in {plural(outcome.units, 'unit')} "
        f"{are(outcome.images)} planned, {outcome.pending:,} {are(outcome.pending)} not done"
    )
    for path in written:
        emit(path)
