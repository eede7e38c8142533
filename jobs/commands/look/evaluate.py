"""``restyle evaluate``: compare methods of inversion on the same faces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restyle.jobs.commands.look.inspection import AsJson
from restyle.jobs.display.terminal import emit_json, error_console, say, say_lines
from restyle.jobs.spec import options

if TYPE_CHECKING:
    from restyle.pipeline.evaluation.request import Evaluation


@options.takes(
    "input",
    "output.out",
    "model.dtype",
    "inversion.align",
    "inversion.faces",
    "inversion.detector",
    "inversion.metrics",
    "inversion.identity_weights",
    "workers",
)
def evaluate(
    context: typer.Context,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="restyle, single-pass, polish:N, optimize:N, hybrid:N or pti:N; may be given "
            "several times. The others are compared with the first. Default: restyle and "
            "single-pass.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Models with commas between them; every method runs with each that suits it.",
        ),
    ] = "faces64",
    direction: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Along which edits are compared: smile, pose or mouth; none for no edits. "
            "Default: smile where the models have it.",
            show_default=False,
        ),
    ] = None,
    change: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Changes of the attribute at which the edits are compared."
        ),
    ] = "-0.1,0.1",
    as_json: AsJson = False,
) -> None:
    """Compare methods of inversion on the same faces: a table, a page, and the data.

    OUT gets table.parquet, table.md and evaluation.html, and in methods/ and edits/ what each
    method made. The same command again continues where it stopped.
    """
    base = options.spec_from(context, None).request()

    from restyle.core.editing.strengths import parse_strengths
    from restyle.jobs.display.termination import EndableDisplay
    from restyle.pipeline.evaluation.request import EvaluationRequest
    from restyle.pipeline.evaluation.run import evaluate as run

    request = EvaluationRequest(
        base=base,
        methods=method or ("restyle", "single-pass"),
        models=tuple(name.strip() for name in models.split(",") if name.strip()),
        direction=direction,
        changes=parse_strengths(change),
    )
    with error_console() as errors, EndableDisplay(errors, doing="evaluating") as display:
        made = run(request, display)
    if as_json:
        emit_json(_as_json(made))
        return
    say_lines(made.text)
    say("")
    for name, place in (("page", made.page), ("table", made.table), ("markdown", made.markdown)):
        say(f"{name}: {place}")


def _as_json(made: Evaluation) -> dict[str, Any]:
    return {
        "faces": made.faces,
        "table": [_finite(vars(row)) for row in made.rows],
        "curve": [_finite(vars(point)) for point in made.points],
        "notes": list(made.notes),
        "written": [made.page, made.table, made.markdown],
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with None for what JSON lacks."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
