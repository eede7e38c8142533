"""``restyle interpolate``, ``mix`` and ``animate``: render pictures from latents of an output."""

from __future__ import annotations

from typing import Annotated

import typer

from restyle.core.errors import SpecError
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import SaidNotes, emit

_FACE = (
    "A photograph's name, or a pattern with *, or an image_id; #1 behind it is its face 1, counted "
    "from 0."
)

Model = Annotated[
    str | None,
    typer.Option("--model", help="Render with this model instead of the one that inverted."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Seconds = Annotated[float, typer.Option(min=0.02, help="How long each picture is shown.")]
Moving = "A moving picture (.webp, .gif, .mp4), a strip (.png) or rows with latents (.parquet)."

_MOST_FRAMES = 1000


def interpolate(
    out: Out,
    first: Annotated[str, typer.Argument(metavar="FIRST", help=_FACE)],
    last: Annotated[str, typer.Argument(metavar="LAST", help="The same.")],
    to: Annotated[str, typer.Option("--out", "--to", metavar="FILE", help=Moving)],
    frames: Annotated[int, typer.Option(min=2, max=_MOST_FRAMES, help="Both ends included.")] = 9,
    seconds: Seconds = 0.1,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Interpolate between two faces along a straight line in latent space."""
    from restyle.core.imaging.animating.animation import FORMATS
    from restyle.pipeline.pictures.picture_file import check_kind, write_pictures

    check_kind(to, (*FORMATS, ".png", ".parquet"))

    from restyle.pipeline.pictures.latent_pictures import LatentPictures

    write_pictures(
        to, LatentPictures(out, model, device).interpolated(first, last, frames), seconds
    )
    emit(to)


def mix(
    out: Out,
    content: Annotated[list[str], typer.Option(help=f"{_FACE} May be given several times.")],
    style: Annotated[list[str], typer.Option(help="The same, for the layers that are replaced.")],
    layers: Annotated[
        str, typer.Option(metavar="RANGES", help="Styles to take from --style, as 4-9 or 0-1,8.")
    ],
    to: Annotated[
        str, typer.Option("--out", "--to", metavar="FILE", help="A grid (.png) or rows (.parquet).")
    ],
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Mix two faces: the styles of some layers from one, the rest from the other."""
    from restyle.core.editing.directions import parse_layers
    from restyle.pipeline.pictures.picture_file import (
        as_png,
        check_kind,
        frame_rows,
        grid,
        write_file,
    )

    kind = check_kind(to, (".png", ".parquet"))
    chosen = parse_layers(layers)

    from restyle.pipeline.pictures.latent_pictures import LatentPictures

    contents, styles, mixed = LatentPictures(out, model, device).mixed(content, style, chosen)
    if kind == ".parquet":
        write_file(to, frame_rows(mixed))
    else:
        across = len(styles.images)
        rows = [
            [picture, *mixed.images[index * across : (index + 1) * across]]
            for index, picture in enumerate(contents.images)
        ]
        write_file(to, as_png(grid([[None, *styles.images], *rows])))
    emit(to)


def animate(
    out: Out,
    face: Annotated[str, typer.Argument(metavar="FACE", help=_FACE)],
    to: Annotated[str, typer.Option("--out", "--to", metavar="FILE", help=Moving)],
    direction: Annotated[
        str | None,
        typer.Option(
            help="Move along this direction, there and back; without it, the steps of the "
            "refinement are shown.",
            show_default=False,
        ),
    ] = None,
    strength: Annotated[
        str, typer.Option(metavar="RANGE", help="Of the direction, as for restyle edit.")
    ] = "-2..2/21",
    seconds: Annotated[
        float | None,
        typer.Option(min=0.02, help="How long each picture is shown: 0.6 for steps, 0.06 else."),
    ] = None,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Animate a face's refinement, or an edit of it."""
    from restyle.core.editing.strengths import parse_strengths
    from restyle.core.imaging.animating.animation import FORMATS
    from restyle.pipeline.pictures.picture_file import check_kind, write_pictures

    kind = check_kind(to, (*FORMATS, ".png", ".parquet"))
    amounts = parse_strengths(strength)

    from restyle.pipeline.pictures.latent_pictures import LatentPictures

    pictures = LatentPictures(out, model, device)
    if direction is None:
        if model is not None:
            raise SpecError("the steps are those of the model that inverted; leave --model out")
        write_pictures(to, pictures.refined(face), seconds or 0.6)
    else:
        shown = pictures.edited(face, direction, amounts, SaidNotes())
        write_pictures(to, shown.there_and_back() if kind in FORMATS else shown, seconds or 0.06)
    emit(to)
