"""``restyle convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A published encoder checkpoint (.pt).")
    ],
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="The model directory to make.")
    ],
) -> None:
    """Turn a published checkpoint into a model directory of safetensors, which loads faster."""
    from rich.console import Console
    from rich.markup import escape

    from restyle.core.checkpoints.directory import convert as convert_checkpoint

    config = convert_checkpoint(source, out_dir)
    encoders = ", ".join(sorted(config.encoders))
    Console(soft_wrap=True).print(escape(f"{out_dir}: {config.domain}, encoders: {encoders}"))
