"""``restyle similar``: list the faces of an output whose latents are nearest to a given one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.commands.look.query import Format, show
from restyle.jobs.display.terminal import console, emit, say

if TYPE_CHECKING:
    from rich.console import Console

    from restyle.pipeline.results.latent_pages import FloatArray
    from restyle.pipeline.results.similar import Neighbours
    from restyle.pipeline.results.snapshot import Snapshot
    from restyle.pipeline.viewer.similar_page import Shown

_MOST_PICTURES = 20


def similar(
    out: Out,
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A face of OUT, as 'photo.jpg' or 'photo.jpg#1'; an image; or a latent as .npy.",
        ),
    ],
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 10,
    layers: Annotated[
        str | None,
        typer.Option(metavar="RANGES", help="Styles that count, as 0-3 or 0-1,8; all if left out."),
    ] = None,
    approximate: Annotated[
        bool,
        typer.Option(
            help="Compare the likeliest faces alone, by the index that restyle index makes."
        ),
    ] = False,
    output_format: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    to: Annotated[
        str | None,
        typer.Option(
            "--out",
            "--to",
            metavar="FILE",
            help="Write a page with pictures (.html), or all rows (.parquet, .csv, .json).",
            show_default=False,
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option(help="Show the faces above the table, on a terminal with colours.")
    ] = True,
    model: Annotated[
        str | None, typer.Option(help="Inverts an image, where OUT's own model lies elsewhere now.")
    ] = None,
) -> None:
    """List the faces nearest in latent space, by exact search over all faces.

    With --approximate an index chooses the latents to compare, and others may be nearer.
    Distance is the root mean square, over the styles, of the distance between style vectors.
    """
    from restyle.core.editing.directions import parse_layers
    from restyle.core.errors import SpecError
    from restyle.jobs.display.answers import FILES, encoded
    from restyle.jobs.display.terminal_pictures import shows_pictures
    from restyle.pipeline.inversion.latent_of import latent_of
    from restyle.pipeline.pictures.picture_file import check_kind, write_file
    from restyle.pipeline.results.similar import neighbours
    from restyle.pipeline.results.snapshot import read_snapshot
    from restyle.pipeline.viewer.similar_page import shown_faces, similar_page

    kind = None if to is None else check_kind(to, (".html", *FILES))
    chosen = None if layers is None else parse_layers(layers)
    if approximate and chosen is not None:
        raise SpecError("--approximate compares all styles; leave out --layers or --approximate")
    snapshot = read_snapshot(out)
    latent = latent_of(snapshot, what, model)
    if approximate:
        found = _nearby(snapshot, latent, count)
    else:
        found = neighbours(snapshot, latent, count, chosen)
    if to is not None:
        if kind == ".html":
            write_file(to, similar_page(snapshot, what, shown_faces(snapshot, found)))
        else:
            write_file(to, encoded(found.rows.to_reader(), kind or ""))
        emit(to)
        return
    terminal = console()
    if pictures and output_format is Format.TABLE and shows_pictures(terminal):
        _print_faces(terminal, shown_faces(snapshot, found))
    show(found.rows.to_reader(), output_format)


def _nearby(snapshot: Snapshot, latent: FloatArray, count: int) -> Neighbours:
    """Search by the index, and say what the answer is worth."""
    from restyle.core.shown_text import plural
    from restyle.pipeline.similarity.approximate import approximate_neighbours

    found = approximate_neighbours(snapshot, latent, count)
    others = "; others may be nearer" if found.compared < found.faces else ""
    say(f"{found.compared:,} of {plural(found.faces, 'latent')} compared{others}", error=True)
    return found.neighbours


def _print_faces(terminal: Console, faces: Sequence[Shown]) -> None:
    """Print the inputs of the nearest faces; the table below has all."""
    from restyle.jobs.display.terminal_pictures import print_pictures
    from restyle.pipeline.viewer.pictures import decoded

    kept = [face for face in faces[:_MOST_PICTURES] if face.pictures]
    if kept:
        print_pictures(
            terminal,
            [decoded(face.pictures[0], face.name) for face in kept],
            [re.split(r"/|::", face.name)[-1] for face in kept],
        )
