"""``restyle convert``: convert published checkpoints to model directories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restyle.jobs.display.terminal import say


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A published encoder checkpoint (.pt).")
    ],
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="The model directory to make.")
    ],
    domain: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the model is for, such as faces or cars; by default told from the file.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Convert a published checkpoint to a model directory of safetensors, which loads faster."""
    from restyle.core.checkpoints.directory import convert as convert_checkpoint

    reasons: list[str] = []
    config = convert_checkpoint(source, out_dir, domain, reasons.append)
    encoders = ", ".join(sorted(config.encoders))
    say(f"{out_dir}: {config.for_what(*reasons)}, encoders: {encoders}")
