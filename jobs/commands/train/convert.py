"""``restyle convert``: convert published checkpoints to model directories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restyle.jobs.display.terminal import say


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="A published encoder checkpoint (.pt), or a generator: NVIDIA's network pickle "
            "(.pkl), a generator file (.pt), or a model.",
        ),
    ],
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="The model directory to make.")
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER",
            help="An encoder's checkpoint or a model, whose encoder is attached to the generator.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="A picture to make of random samples, at the domain's truncation, to look at.",
            show_default=False,
        ),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the model is for, such as faces or cars; by default told from the file.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Convert a published checkpoint to a model directory of safetensors, which loads faster.

    Nothing in the file is run. A generator gets its average latent computed if it has none.
    """
    from restyle.core.checkpoints.conversion import convert as convert_checkpoint

    made = convert_checkpoint(source, out_dir, domain, encoder)
    for sentence in made.found:
        say(sentence)
    encoders = ", ".join(sorted(made.config.encoders))
    if samples is not None:
        from restyle.core.inference.samples import write_samples

        psi = write_samples(out_dir, samples)
        say(f"{samples}: random samples at truncation {psi:g}")
    say(f"{out_dir}: {made.config.for_what(made.domain_reason)}, encoders: {encoders}")
