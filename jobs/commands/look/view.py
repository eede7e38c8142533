"""``restyle view``: show finished runs on a page, served locally or written to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restyle.core.errors import SpecError
from restyle.core.shown_text import plural
from restyle.jobs.display.terminal import say

if TYPE_CHECKING:
    from restyle.pipeline.viewer.server import Site


def view(
    outs: Annotated[
        list[str],
        typer.Argument(
            metavar="OUT...",
            help="Where restyle invert wrote, several to compare; or where restyle edit wrote.",
        ),
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
    directions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="Further directions than the model's: a folder of restyle directions fit or "
            "import, or a file; may be given several times.",
            show_default=False,
        ),
    ] = None,
    accept_uploads: Annotated[
        bool,
        typer.Option(
            "--accept-uploads",
            help="Let photographs be dropped on the page and inverted; they stay in memory.",
        ),
    ] = False,
) -> None:
    """Show runs in a browser: faces, their steps, edits, two side by side, and a run at work."""
    if _holds_edits(outs):
        from restyle.pipeline.viewer.edited_run import EditedRun

        if export is not None or directions or accept_uploads:
            raise SpecError("the page of edits takes --host and --port alone")
        _serve(EditedRun(outs[0]), host, port)
        return
    from restyle.pipeline.viewer.run import ViewedRun

    runs = [ViewedRun(out, model, directions or ()) for out in outs]
    if export is not None:
        from restyle.pipeline.storage.addresses import shown_uri
        from restyle.pipeline.viewer.export import export as write

        count = write(runs, export, most)
        faces = plural(len(runs[0].faces), "face")
        say(f"{count:,} of {faces}; open {shown_uri(str(export / 'index.html'))}")
        return
    from restyle.pipeline.viewer.server import RunsSite

    _serve(RunsSite(runs, accept_uploads), host, port)


def _holds_edits(outs: list[str]) -> bool:
    """Whether the only output holds edits."""
    from restyle.pipeline.accounting.operation import bound_to
    from restyle.pipeline.storage.filesystem import open_storage

    if len(outs) != 1:
        return False
    bound = bound_to(open_storage(outs[0]))
    return bound is not None and bound[0].name == "editing"


def _serve(site: Site, host: str, port: int) -> None:
    from restyle.pipeline.viewer.server import ViewServer

    with ViewServer(site, host, port) as server:
        say(f"Open {server.url}")
        say("Ctrl-C ends it.")
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            say("ended")
