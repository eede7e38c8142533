"""``restyle train``: train generators and encoders from a specification, resumably."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restyle.jobs.display.help import command, group
from restyle.jobs.display.terminal import say

app = group("train", "Train a generator or an encoder.")

SpecPath = Annotated[Path, typer.Argument(help="TOML specification; see recipes/ for examples.")]
RunPath = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Folder of the run: checkpoint, loss log, sample grids. Continued if it exists.",
    ),
]


@command(app, "generator")
def train_generator(spec: SpecPath, out: RunPath) -> None:
    """Train a StyleGAN2 generator: on images alone, by distillation, or from a parent."""
    from restyle.core.training.generators.distillation import GeneratorTrainer
    from restyle.core.training.generators.spec import GeneratorSpec
    from restyle.core.training.generators.stylegan import StyleGanTrainer
    from restyle.core.training.spec import load_spec

    wanted = load_spec(spec, GeneratorSpec)
    trainer = GeneratorTrainer if wanted.gan is None else StyleGanTrainer
    trainer(wanted, out).run(say)


@command(app, "encoder")
def train_encoder(spec: SpecPath, out: RunPath) -> None:
    """Train a ReStyle encoder, or a single-pass one, for a generator."""
    from restyle.core.training.encoders.spec import EncoderSpec
    from restyle.core.training.encoders.trainer import EncoderTrainer
    from restyle.core.training.spec import load_spec

    EncoderTrainer(load_spec(spec, EncoderSpec), out).run(say)


@command(app, "export")
def export_run(
    run: Annotated[Path, typer.Argument(help="Folder of an encoder's training run.")],
    out: Annotated[
        Path, typer.Option("--out", "--to", help="Model directory to write; must not exist.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the model; that of --out by default.")
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Photographs are of faces and are aligned.")
    ] = False,
) -> None:
    """Export the encoder of a run and its generator as a model for the other commands."""
    from restyle.core.training.encoders.export import export

    config = export(run, out, name or out.name, align=align)
    say(f"{out}: {config.name} with encoder {config.default_encoder}")
