"""``restyle similar``: list the faces of an output whose latents are nearest to a given one."""

from __future__ import annotations

from typing import Annotated

import typer

from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.commands.look.query import Format, show


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
    output_format: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    model: Annotated[
        str | None, typer.Option(help="Inverts an image, where OUT's own model lies elsewhere now.")
    ] = None,
) -> None:
    """List the faces nearest in latent space, by exact search over all faces.

    Distance is the root mean square, over the styles, of the distance between style vectors.
    """
    from restyle.core.editing.directions import parse_layers
    from restyle.pipeline.inversion.latent_of import latent_of
    from restyle.pipeline.results.similar import nearest
    from restyle.pipeline.results.snapshot import read_snapshot

    chosen = None if layers is None else parse_layers(layers)
    snapshot = read_snapshot(out)
    latent = latent_of(snapshot, what, model)
    show(nearest(snapshot, latent, count, chosen).to_reader(), output_format)
