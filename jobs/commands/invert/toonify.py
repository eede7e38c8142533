"""``restyle toonify``: convert photographs to another domain by encoder bootstrapping."""

from __future__ import annotations

from typing import Annotated

import typer

from restyle.jobs.spec import options


@options.takes(
    "input",
    "inversion.faces",
    "model.domain",
    "model.dtype",
    *options.RUNNING,
    without=["input.max_reject_rate"],
)
def toonify(
    context: typer.Context,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "--to", metavar="OUT", help="Where the pictures go: a folder or a URI."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="What the pictures become: a model as for restyle invert.")
    ] = "toon64",
    photo_model: Annotated[
        str, typer.Option(help="What takes the first step: the model of the photographs' domain.")
    ] = "faces64",
    steps: Annotated[
        int, typer.Option(min=2, help="In all; the first is the photo model's, the others follow.")
    ] = 6,
) -> None:
    """Turn photographs into cartoons, or into any other domain that a model was fine-tuned to.

    The first step uses the photo model, later steps the other model. OUT is an output like any
    other: resumable, with latents, all steps' pictures and a report, and strip.png to look at.
    """
    from restyle.jobs.commands.invert.invert import run
    from restyle.pipeline.pictures.strip import write_strip

    context.params |= {"bootstrap": photo_model, "reconstructions": "all"}
    request = options.spec_from(context, None).request()
    run(request, [("strip", lambda: write_strip(request.out))])
