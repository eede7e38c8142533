"""``restyle train``: train generators and encoders from a specification, resumably."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restyle.core.shown_text import plural
from restyle.jobs.display.help import command, group
from restyle.jobs.display.terminal import error_console, say

if TYPE_CHECKING:
    from restyle.core.training.loop import Trainer

app = group("train", "Train a generator or an encoder.")

SpecPath = Annotated[
    Path, typer.Argument(metavar="SPEC", help="TOML specification; see recipes/ for examples.")
]
RunPath = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Folder of the run: checkpoint, loss log, sample grids. Continued if it exists.",
    ),
]


@command(app, "generator")
def train_generator(spec: SpecPath, out: RunPath) -> None:
    """Train a StyleGAN2 generator: on images alone, by distillation, or from a parent.

    Ctrl-C ends it with a checkpoint; the same command goes on from there.
    """
    from restyle.core.training.generators.distillation import GeneratorTrainer
    from restyle.core.training.generators.spec import GeneratorSpec
    from restyle.core.training.generators.stylegan import StyleGanTrainer
    from restyle.core.training.spec import load_spec

    wanted = load_spec(spec, GeneratorSpec)
    trainer = GeneratorTrainer if wanted.gan is None else StyleGanTrainer
    _train(
        trainer(wanted, out),
        shlex.join(["restyle", "train", "generator", str(spec), "--out", str(out)]),
        f"train an encoder for it, with generator = {str(out)!r} in the specification: "
        "restyle train encoder SPEC --out RUN",
    )


@command(app, "encoder")
def train_encoder(spec: SpecPath, out: RunPath) -> None:
    """Train a ReStyle encoder, or a single-pass one, for a generator.

    Ctrl-C ends it with a checkpoint; the same command goes on from there.
    """
    from restyle.core.training.encoders.spec import EncoderSpec
    from restyle.core.training.encoders.trainer import EncoderTrainer
    from restyle.core.training.spec import load_spec

    _train(
        EncoderTrainer(load_spec(spec, EncoderSpec), out),
        shlex.join(["restyle", "train", "encoder", str(spec), "--out", str(out)]),
        f"make a model of it: restyle train export {shlex.quote(str(out))} --out MODEL",
    )


def _train(trainer: Trainer, again: str, then: str) -> None:
    """Run a trainer with a display.

    Args:
        trainer: what is run.
        again: the command that goes on with it.
        then: what to do after its end.

    Raises:
        Interrupted: the user pressed Ctrl-C.
    """
    from restyle.jobs.display.training import TrainingDisplay
    from restyle.pipeline.listener import Interrupted

    images = trainer.schedule.images
    try:
        with (
            error_console() as errors,
            TrainingDisplay(errors, is_gentle=trainer.processes.count == 1) as display,
        ):
            seen = trainer.run(lambda _: None, display)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on from the last checkpoint with: {again}") from None
    if seen < images:
        raise Interrupted(
            f"interrupted after {seen:,} of {plural(images, 'image')}, with a checkpoint; go on "
            f"with: {again}"
        )
    if trainer.processes.rank == 0:
        say(f"trained with {plural(seen, 'image')}; {then}")


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
