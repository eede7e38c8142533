"""``restyle coarse-to-fine``: measure the change of each refinement step by spatial frequency."""

from __future__ import annotations

from typing import Annotated

import typer

from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import console, emit, say


def coarse_to_fine(
    out: Out,
    limit: Annotated[int, typer.Option(min=1, help="At most so many faces.")] = 200,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw it, too (.svg).", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the model is, if it has moved.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure the change of each refinement step by spatial frequency.

    The steps are computed again from the aligned faces that OUT has kept.
    """
    from rich.table import Table

    from restyle.pipeline.pictures.picture_file import check_kind, write_file

    if plot is not None:
        check_kind(plot, (".svg",))

    from restyle.pipeline.pictures.band_plot import band_plot
    from restyle.pipeline.pictures.coarse_to_fine import coarse_to_fine as measure

    found = measure(out, limit, model, device)
    table = Table(box=None, pad_edge=False)
    table.add_column("step", justify="right")
    table.add_column("change", justify="right")
    for name in found.bands:
        table.add_column(name, justify="right")
    for step, (energies, shares) in enumerate(zip(found.energies, found.shares, strict=True), 1):
        table.add_row(str(step), f"{energies.sum():.5f}", *(f"{share:.1%}" for share in shares))
    say(
        f"{plural(found.faces, 'face')}: mean square of each step's change, and its shares by "
        "cycles per image"
    )
    console().print(table)
    if plot is not None:
        write_file(plot, band_plot(found).encode())
        emit(plot)
