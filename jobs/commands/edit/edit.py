"""``restyle edit``: shift the latents of a finished inversion along directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restyle.core.errors import SpecError
from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import console, error_console, say
from restyle.jobs.spec import options

if TYPE_CHECKING:
    from restyle.pipeline.editing.request import EditOutcome, Move


Edits = Annotated[
    str,
    typer.Option("--out", "--to", metavar="EDITS", help="Where the edits go: a folder or a URI."),
]
Directions = Annotated[
    list[str],
    typer.Option(help="Name of one of the model's, or a file; may be given several times."),
]
Strengths = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RANGE",
        help="2, or -1,0,1, or -3..3/7 for seven from -3 to 3. One for all directions, or one "
        "for each. Every strength of one is combined with every one of the others. "
        "Default: -2..2/5.",
        show_default=False,
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RANGES",
        help="Styles to move, as 0-3 or 0-1,8; 'all'; 'own' for what the direction is meant "
        "for. One for all directions, or one for each. Default: own.",
        show_default=False,
    ),
]
Truncation = Annotated[
    float, typer.Option(min=0, help="Share of the distance to the average that is kept.")
]
PasteBack = Annotated[
    bool, typer.Option("--paste-back", help="Put the edited faces back into the photographs.")
]
KeepDetail = Annotated[
    bool,
    typer.Option(
        "--keep-detail",
        help="With --paste-back: add to the photograph what the edit changed, nothing else.",
    ),
]
Pictures = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Write every picture as a PNG file into this folder, too, and with --paste-back "
        "every photograph with its metadata.",
        show_default=False,
    ),
]
Score = Annotated[
    bool, typer.Option(help="Measure smile, pose and mouth by landmarks, which takes longest.")
]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Faces of sources like this: a name, a path, or a pattern with * and ?.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="At most so many photographs.", show_default=False),
]
OtherModel = Annotated[
    str | None,
    typer.Option(help="Render with this model instead of the one that inverted."),
]


@options.takes(
    "input.allow_private_urls",
    *options.RUNNING,
    without=["workers.batch_size", "workers.align_actors"],
)
def edit(
    context: typer.Context,
    out: Out,
    to: Edits,
    direction: Directions,
    strength: Strengths = None,
    layers: Layers = None,
    truncation: Truncation = 1.0,
    paste_back: PasteBack = False,
    keep_detail: KeepDetail = False,
    pictures: Pictures = None,
    score: Score = True,
    only: Only = None,
    limit: Limit = None,
    model: OtherModel = None,
) -> None:
    """Edit the faces of a finished inversion, and measure the changes.

    The same command again continues after an interruption, and adds faces that are new.
    """
    from restyle.jobs.display.next_commands import after_edits, say_next
    from restyle.jobs.display.termination import EndableDisplay
    from restyle.pipeline.editing.edit import edit as run
    from restyle.pipeline.editing.request import EditRequest
    from restyle.pipeline.results.face_rows import Selection
    from restyle.pipeline.storage.addresses import shown_uri

    if keep_detail and not paste_back:
        raise SpecError("--keep-detail says how to paste back; give --paste-back, too")
    asked, monitoring = options.running_from(context)
    request = EditRequest(
        out=out,
        to=to,
        moves=_moves(direction, strength or [], layers or []),
        truncation=truncation,
        score=score,
        paste_back=("change" if keep_detail else "face") if paste_back else "none",
        selection=Selection(only, limit),
        model=model,
        device=asked.device,
        workers=asked.to_workers(),
        allow_private_urls=bool(context.params["allow_private_urls"]),
        monitoring=monitoring.to_monitoring(),
    )
    each = math.prod(len(move.strengths) for move in request.moves)
    with error_console() as errors, EndableDisplay(errors, "editing", each) as display:
        outcome = run(request, display)
    _show(to, outcome)
    if pictures is not None:
        from restyle.pipeline.pictures.edited_files import write_edited

        say(f"{plural(write_edited(to, pictures), 'picture')} in {shown_uri(pictures)}")
    say(f"report: {outcome.report}", error=True)
    if outcome.summary.faces:
        say_next(after_edits(to))


def _moves(
    directions: Sequence[str], strengths: Sequence[str], layers: Sequence[str]
) -> list[Move]:
    from restyle.core.editing.directions import parse_layers
    from restyle.core.editing.strengths import parse_strengths
    from restyle.pipeline.editing.request import Move

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
            f"{option} is given {plural(len(given), 'time')} for {plural(count, 'direction')}; "
            "give it once, or once for each"
        )
    return list(given) * count if len(given) == 1 else given


def _show(to: str, outcome: EditOutcome) -> None:
    from restyle.jobs.display.edit_tables import show_edits
    from restyle.jobs.display.progress import duration

    summary = outcome.summary
    say(
        f"{to}: {plural(summary.faces, 'face')}, {plural(len(summary.combinations), 'edit')} each; "
        f"{plural(outcome.photographs, 'photograph')} in this run, {duration(outcome.seconds)}"
    )
    show_edits(console(), outcome.settings, summary)
