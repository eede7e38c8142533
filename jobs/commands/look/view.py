"""``restyle view``: show finished runs on a page, served locally or written to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restyle.core.shown_text import plural
from restyle.jobs.display.terminal import say


def view(
    outs: Annotated[
        list[str],
        typer.Argument(metavar="OUT...", help="Where restyle invert wrote; several to compare."),
    ],
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write the page into a folder instead; needs no server."
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, max=20_000, help="Faces of each run in an export.")
    ] = 500,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others can then reach it who have the token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(help="Renders edits, where the run's own model lies elsewhere now."),
    ] = None,
) -> None:
    """Show finished runs in a browser: faces, their steps, edits, two runs side by side."""
    from restyle.pipeline.viewer.run import ViewedRun

    runs = [ViewedRun(out, model) for out in outs]
    if export is not None:
        from restyle.pipeline.storage.addresses import shown_uri
        from restyle.pipeline.viewer.export import export as write

        count = write(runs, export, most)
        faces = plural(len(runs[0].faces), "face")
        say(f"{count:,} of {faces}; open {shown_uri(str(export / 'index.html'))}")
        return
    from restyle.pipeline.viewer.server import ViewServer

    server = ViewServer(runs, host, port)
    with server:
        say(f"Open {server.url}")
        say("Ctrl-C ends it.")
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            say("ended")
