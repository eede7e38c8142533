"""``restyle export``: write the latents of an output in the format of another library."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from restyle.core.shown_text import plural
from restyle.jobs.commands.look.inspection import Out
from restyle.jobs.display.terminal import SaidNotes, emit, say


class Form(StrEnum):
    """Formats of exports."""

    HF = "hf"
    LANCE = "lance"
    WEBDATASET = "webdataset"
    NPY = "npy"
    DELTA = "delta"


def export(
    out: Out,
    to: Annotated[
        Form,
        typer.Option(
            help="A Hugging Face dataset, Lance with a vector index, WebDataset shards, one .npy "
            "with a table of its rows, or a Delta table.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str,
        typer.Option(
            "--out", metavar="FOLDER", help="Folder to make, on a disk.", show_default=False
        ),
    ],
) -> None:
    """Write the current latents of an output, with their columns, for another library.

    The folder appears when it is complete; an export that was killed is begun anew.
    """
    from restyle.pipeline.exporting.export import export as write

    done = write(out, to.value, target, SaidNotes())
    say(f"{plural(done.rows, 'row')}; open with: {done.usage}", error=True)
    emit(str(done.folder))
