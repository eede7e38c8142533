"""``restyle edit``: move the latents of a finished inversion along directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jobs.inspection import Out
from restyle_core.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipeline.edit import EditOutcome, Move
    from pipeline.edit_settings import EditSettings
    from pipeline.edit_summary import EditSummary

_MOST_ROWS = 50


def edit(
    out: Out,
    to: Annotated[
        str, typer.Option("--to", metavar="EDITS", help="Where the edits go: a folder or a URI.")
    ],
    direction: Annotated[
        list[str],
        typer.Option(help="Name of one of the model's, or a file; may be given several times."),
    ],
    strength: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RANGE",
            help="2, or -1,0,1, or -3..3/7 for seven from -3 to 3. One for all directions, or one "
            "for each. Every strength of one is combined with every one of the others. "
            "Default: -2..2/5.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RANGES",
            help="Styles to move, as 0-3 or 0-1,8; 'all'; 'own' for what the direction is meant "
            "for. One for all directions, or one for each. Default: own.",
            show_default=False,
        ),
    ] = None,
    truncation: Annotated[
        float, typer.Option(min=0, help="Share of the distance to the average that is kept.")
    ] = 1.0,
    paste_back: Annotated[
        bool, typer.Option("--paste-back", help="Put the edited faces back into the photographs.")
    ] = False,
    keep_detail: Annotated[
        bool,
        typer.Option(
            "--keep-detail",
            help="With --paste-back: add to the photograph what the edit changed, nothing else.",
        ),
    ] = False,
    score: Annotated[
        bool, typer.Option(help="Measure smile, pose and mouth by landmarks, which takes longest.")
    ] = True,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="Faces of sources like this, with * and ?.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many faces.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Render with this model instead of the one that inverted."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; by default as many as there are cores and work."),
    ] = None,
) -> None:
    """Edit the faces of a finished inversion, and measure what became of them.

    The same command again continues after an interruption, and takes in what is new.
    """
    from rich.console import Console

    from jobs.termination import EndableDisplay
    from pipeline.edit import EditRequest
    from pipeline.edit import edit as run
    from pipeline.edit_summary import summarise
    from pipeline.face_rows import Selection
    from pipeline.storage import open_storage

    if keep_detail and not paste_back:
        raise SpecError("--keep-detail says how to paste back; give --paste-back, too")
    request = EditRequest(
        out=out,
        to=to,
        moves=_moves(direction, strength or [], layers or []),
        truncation=truncation,
        score=score,
        paste_back=("change" if keep_detail else "face") if paste_back else "none",
        selection=Selection(only, limit),
        model=model,
        device=device,
        workers=workers,
    )
    with EndableDisplay(Console(stderr=True), doing="editing") as display:
        outcome = run(request, display)
    summary = summarise(to, open_storage(to), outcome.settings)
    _show(Console(soft_wrap=True, highlight=False), to, outcome, summary)


def _moves(
    directions: Sequence[str], strengths: Sequence[str], layers: Sequence[str]
) -> list[Move]:
    from pipeline.edit import Move
    from restyle_core.directions import parse_layers
    from restyle_core.editing import parse_strengths

    own: dict[str, Literal["all"] | None] = {"own": None, "all": "all"}
    return [
        Move(name, parse_strengths(amount), own[styles] if styles in own else parse_layers(styles))
        for name, amount, styles in zip(
            directions,
            _each(strengths or ["-2..2/5"], len(directions), "--strength"),
            _each(layers or ["own"], len(directions), "--layers"),
            strict=True,
        )
    ]


def _each(given: Sequence[str], count: int, option: str) -> Sequence[str]:
    if len(given) not in (1, count):
        raise SpecError(
            f"{option} is given {len(given)} times for {count} directions; once, or once for each"
        )
    return list(given) * count if len(given) == 1 else given


def _show(console: Console, to: str, outcome: EditOutcome, summary: EditSummary) -> None:
    from rich.markup import escape

    from jobs.progress import duration

    edits = len(summary.combinations)
    console.print(
        escape(f"{to}: {summary.faces} faces, {edits} edits each; ")
        + f"{outcome.faces} faces in this run, {duration(outcome.seconds)}"
    )
    if summary.without_photo:
        console.print(
            f"{summary.without_photo} faces could not be put back into their photographs; "
            "the column photo_problem says why"
        )
    console.print(_table(outcome.settings, summary))
    for steady in summary.steadiness:
        console.print(
            f"{steady.attribute} rises with every step of the strength in {steady.rising:.1%} of "
            f"the {steady.faces} faces that are found at all strengths"
        )


def _table(settings: EditSettings, summary: EditSummary) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for direction in settings.directions:
        table.add_column(escape(direction.name), justify="right", no_wrap=True)
    table.add_column("identity kept", justify="right")
    for name in summary.changes:
        table.add_column(f"{name} change", justify="right")
    for row, strengths in enumerate(summary.combinations[:_MOST_ROWS]):
        changes = [f"{values[row]:+.3f}" for values in summary.changes.values()]
        table.add_row(
            *(f"{each:+g}" for each in strengths), f"{summary.identity[row]:.3f}", *changes
        )
    if len(summary.combinations) > _MOST_ROWS:
        table.add_row("...")
    return table
