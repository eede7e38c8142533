"""Put the trained runs together into the model directory ``toon64`` that ships with the project."""

from __future__ import annotations

from pathlib import Path

import typer

from recipes.faces64.teacher import FRAMING, STORED_SIZE
from restyle.core.checkpoints.directory import read_model, save_model
from restyle.core.checkpoints.weights import EncoderWeights, ModelWeights
from restyle.core.networks.config import Domain, EncoderKind, embedded_models
from restyle.core.training.journal import Journal

ENCODER = "restyle-psp"
_MAPPING = "style."


def main(
    generator: Path = typer.Argument(help="Run of the generator."),
    encoder: Path = typer.Argument(help="Run of the ReStyle encoder."),
    out: Path = typer.Argument(help="Model directory to write; must not exist."),
) -> None:
    """Write model.json and float16 safetensors from the averaged weights of the runs.

    The mapping network is that of ``faces64`` as it is now, so that a z means the same to both.
    """
    synthesis = Journal.read_checkpoint(generator / "checkpoint.pt")["average"]
    parent = read_model(embedded_models()["faces64"])[1].generator
    state = {
        **{key: value for key, value in synthesis.items() if not key.startswith(_MAPPING)},
        **{key: value for key, value in parent.items() if key.startswith(_MAPPING)},
    }
    checkpoint = Journal.read_checkpoint(encoder / "checkpoint.pt")
    weights = EncoderWeights(
        EncoderKind.SMALL_BACKBONE, checkpoint["average"], checkpoint["latent_avg"]
    )
    domain = Domain(
        name="toon64",
        domain="cartoons of faces",
        image_size=(STORED_SIZE, STORED_SIZE),
        align=True,
        framing_scale=FRAMING.scale,
        framing_shift=FRAMING.shift,
    )
    save_model(ModelWeights(domain, state, {ENCODER: weights}, ENCODER), out, half=True)


if __name__ == "__main__":
    typer.run(main)
