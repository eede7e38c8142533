"""Put trained runs together into the model directory that ships with the project."""

from __future__ import annotations

from pathlib import Path

import typer

from recipes.faces64.teacher import FRAMING, STORED_SIZE
from restyle_core.checkpoints import save_model
from restyle_core.config import Domain, EncoderKind
from restyle_core.model_weights import EncoderWeights, ModelWeights
from restyle_core.training.journal import Journal

DEFAULT = "restyle-psp"


def main(
    generator: Path = typer.Argument(help="Run of the generator."),
    out: Path = typer.Argument(help="Model directory to write; must not exist."),
    encoder: list[str] = typer.Option(
        help="NAME=RUN of each encoder, for instance restyle-psp=runs/e."
    ),
) -> None:
    """Write model.json and float16 safetensors from the averaged weights of the runs."""
    state = Journal.read_checkpoint(generator / "checkpoint.pt")["average"]
    encoders = {}
    for entry in encoder:
        name, _, run = entry.partition("=")
        checkpoint = Journal.read_checkpoint(Path(run) / "checkpoint.pt")
        encoders[name] = EncoderWeights(
            EncoderKind.SMALL_BACKBONE, checkpoint["average"], checkpoint["latent_avg"]
        )
    domain = Domain(
        name="faces64",
        domain="faces",
        image_size=(STORED_SIZE, STORED_SIZE),
        align=True,
        framing_scale=FRAMING.scale,
        framing_shift=FRAMING.shift,
    )
    save_model(ModelWeights(domain, state, encoders, DEFAULT), out, half=True)


if __name__ == "__main__":
    typer.run(main)
