"""``restyle retry-rejects``: run rejected inputs again."""

from __future__ import annotations

from typing import Annotated

import typer

from restyle.core.errors import RejectReason
from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import console, error_console, say
from restyle.jobs.spec import options


@options.takes("input.max_reject_rate", "input.allow_private_urls", *options.RUNNING)
def retry_rejects(
    context: typer.Context,
    out: Out,
    reason: Annotated[
        list[str] | None,
        typer.Option(
            help="Which rejects, by reason; may be given several times, or be 'all'. Default: "
            "unreadable, timed_out and crashed. All reasons: " + ", ".join(RejectReason) + ".",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Where the model is, if it has moved since the last run.", show_default=False
        ),
    ] = None,
) -> None:
    """Run inputs again that were rejected for reasons that may be temporary.

    The settings are those that OUT was made with. New results replace the rejects. Units of edits
    become pending again, and the command that made OUT runs them.
    """
    from restyle.jobs.display.next_commands import say_next
    from restyle.jobs.display.progress import duration
    from restyle.jobs.display.tables import show_summary
    from restyle.jobs.display.termination import EndableDisplay
    from restyle.pipeline.accounting.operation import bound_to
    from restyle.pipeline.accounting.withdrawal import withdraw
    from restyle.pipeline.inversion.retry import Retry, reasons_named
    from restyle.pipeline.inversion.retry import retry_rejects as run
    from restyle.pipeline.storage.filesystem import open_storage

    reasons = reasons_named(reason or [])
    bound = bound_to(open_storage(out))
    if bound is not None and not bound[0].is_revised:
        withdrawn = withdraw(out, reasons)
        if withdrawn.units:
            say(
                f"{withdrawn.inputs} {bound[0].inputs} are pending again; run the command again "
                f"that made {out}"
            )
        else:
            say("nothing to try again: no input is rejected for these reasons")
        return
    # The command has no INPUT, but a specification requires one.
    context.params["source"] = out
    request = options.spec_from(context, None).request()
    retry = Retry(
        out=out,
        reasons=reasons,
        model=model,
        device=request.device,
        batch_size=request.batch_size,
        max_reject_rate=request.max_reject_rate,
        workers=request.workers,
        allow_private_urls=request.input.allow_private_urls,
        monitoring=request.monitoring,
    )
    with error_console() as errors, EndableDisplay(errors) as display:
        outcome = run(retry, display)
    lines = [("report", outcome.report)]
    if outcome.images:
        lines.insert(
            0, ("this run", f"{plural(outcome.images, 'input')} in {duration(outcome.seconds)}")
        )
    show_summary(console(), outcome.summary, lines)
    say_next([(["view", out], "see the faces and their steps in a browser")])
