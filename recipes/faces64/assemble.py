"""Put trained runs together into the model directory that ships with the project."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import typer

from recipes.faces64.teacher import FRAMING, STORED_SIZE
from restyle.core.checkpoints.directory import read_model, save_model
from restyle.core.checkpoints.weights import EncoderWeights, ModelWeights
from restyle.core.networks.config import MODEL_FILE, Domain, read_config
from restyle.core.training.encoders.spec import EncoderSpec
from restyle.core.training.journal import Journal

DEFAULT = "restyle-psp"


def main(
    generator: Path = typer.Argument(
        help="Run of the generator; or a model directory, whose generator, other encoders, card "
        "and directions are kept."
    ),
    out: Path = typer.Argument(help="Model directory to write; must not exist."),
    encoder: list[str] = typer.Option(
        help="NAME=RUN of each encoder, for instance restyle-psp=runs/e."
    ),
) -> None:
    """Write model.json and float16 safetensors from the averaged weights of the runs."""
    runs = {name: Path(run) for name, _, run in (entry.partition("=") for entry in encoder)}
    trained = {name: trained_encoder(run) for name, run in runs.items()}
    if (generator / MODEL_FILE).is_file():
        known = read_whole(generator)
        encoders = {**known.encoders, **trained}
        save_model(replace(known, encoders=encoders), out, half=True)
        _copy_the_rest(generator, out)
        return
    state = Journal.read_checkpoint(generator / "checkpoint.pt")["average"]
    domain = Domain(
        name="faces64",
        domain="faces",
        image_size=(STORED_SIZE, STORED_SIZE),
        align=True,
        framing_scale=FRAMING.scale,
        framing_shift=FRAMING.shift,
    )
    save_model(ModelWeights(domain, state, trained, DEFAULT), out, half=True)


def trained_encoder(run: Path) -> EncoderWeights:
    """The averaged weights of an encoder's run."""
    spec = EncoderSpec.model_validate_json((run / "spec.json").read_text())
    checkpoint = Journal.read_checkpoint(run / "checkpoint.pt")
    return EncoderWeights(spec.kind, checkpoint["average"], checkpoint["latent_avg"])


def read_whole(model: Path) -> ModelWeights:
    """A model directory with all its encoders."""
    config = read_config(model)
    encoders = {name: read_model(model, name)[1].encoders[name] for name in config.encoders}
    return replace(read_model(model)[1], encoders=encoders)


def _copy_the_rest(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.is_dir():
            shutil.copytree(path, target / path.name)
        elif path.name == "README.md":
            shutil.copy(path, target)


if __name__ == "__main__":
    typer.run(main)
