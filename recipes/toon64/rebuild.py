"""Rebuild the embedded model toon64 from the crops of faces64: drawings, training, figures.

Every stage is skipped when its result exists, so a rebuild that was stopped goes on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer

HERE = Path(__file__).parent


def _run(*arguments: object) -> None:
    command = [sys.executable, "-m", *map(str, arguments)]
    subprocess.run(command, check=True)  # noqa: S603 - our own interpreter and modules


def _draw(crops: Path, held: Path, data: Path) -> None:
    latents = ("latents", "--crops", crops)
    sets = {
        "pairs0.npz": (*latents, "--drawn", 1_000, "--inverted", 600, "--seed", 21),
        "pairs1.npz": (*latents, "--drawn", 3_000, "--inverted", 1_800, "--first", 600),
        "photos.npz": ("photos", "--count", 7_000, "--first", 2_400, "--crops", crops),
        "held.npz": ("photos", "--count", 500, "--crops", held),
    }
    for name, options in sets.items():
        if not (data / name).exists():
            _run("recipes.toon64.pairs", *options, data / name)


def main(
    crops: Path = typer.Argument(help="Training crops, as recipes.faces64 makes them."),
    held: Path = typer.Argument(help="Held-out crops."),
    work: Path = typer.Argument(help="Folder for drawings and runs; about 1 GB."),
    out: Path = typer.Argument(help="Model directory to write; must not exist."),
) -> None:
    """Draw cartoons, fine-tune faces64's generator and encoder on them, measure both."""
    (work / "data").mkdir(parents=True, exist_ok=True)
    for spec in HERE.glob("*.toml"):
        (work / spec.name).write_text(spec.read_text())
    _draw(crops, held, work / "data")
    generator, encoder = work / "runs" / "generator", work / "runs" / "restyle-psp"
    _run("restyle.jobs.cli", "train", "generator", work / "generator.toml", "--out", generator)
    _run("restyle.jobs.cli", "train", "encoder", work / "restyle-psp.toml", "--out", encoder)
    _run("recipes.toon64.assemble", generator, encoder, out)
    _run("recipes.toon64.measure", work / "data" / "held.npz", "--model", out)


if __name__ == "__main__":
    typer.run(main)
