"""Which of two encoders' latents take an edit better: identity kept at equal change.

Both invert the same held-out photographs and are edited along one direction at several strengths.
An edit of one strength changes two encoders' pictures by different amounts, so that identities at
equal strengths say nothing; they are read where both have changed the attribute by the same.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from recipes.faces64.teacher import FRAMING
from restyle.core.editing.attributes import measure
from restyle.core.editing.directions import Direction
from restyle.core.editing.equal_change import strength_for
from restyle.core.editing.lookup import find_direction
from restyle.core.editing.strengths import apply, parse_strengths
from restyle.core.imaging.preprocessing import to_pictures
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import Model, load_model
from restyle.core.inference.results import Inversion
from restyle.core.inference.way import render_tuned
from restyle.core.metrics.bootstrap import Rows, over_images
from restyle.core.metrics.features import embeddings, unit_length
from restyle.core.training.crops import CropSet

Floats = npt.NDArray[np.float64]

IDENTITIES = {"reconstruction": "its own reconstruction", "photograph": "the photograph"}
"""What an edited picture's identity is compared with."""

_BATCH = 50


@dataclass(frozen=True, eq=False)
class Edits:
    """What edits of several strengths did to N photographs.

    Attributes:
        strengths: [S], ascending; one of them is 0.
        scores: [N, S] of the attribute; NaN where dlib found no face.
        kept: by name of :data:`IDENTITIES` [N, S], similarity of the embeddings.
    """

    strengths: Floats
    scores: Floats
    kept: dict[str, Floats]

    def reached(self, change: float, rows: Rows) -> float:
        """At which strength the mean score of some photographs has changed by so much; or NaN.

        Args:
            change: above or below that of strength 0.
            rows: which photographs.
        """
        return strength_for(change, self.strengths, self.scores[rows])

    def kept_at(self, change: float, name: str, rows: Rows) -> float:
        """Their mean identity at that strength."""
        means = self.kept[name][rows].mean(axis=0)
        return float(np.interp(self.reached(change, rows), self.strengths, means))


def edit(
    model: str, held: Tensor, direction: Direction, strengths: Floats, polish: int = 0
) -> Edits:
    """Invert and edit photographs, and measure the pictures.

    Args:
        model: with its encoder.
        held: [N, S, S, 3] uint8, aligned.
        direction: its name is that of the attribute to score.
        strengths: ascending, with 0.
        polish: steps of optimisation after the encoder's.
    """
    loaded = load_model(model, dtype="fp32", device="cpu")
    steps = 5 if loaded.iterative else 1
    inverted = invert(loaded, held, steps, polish=polish, latents="last", batch_size=_BATCH)
    return edit_inverted(loaded, inverted, held, direction, strengths)


def edit_inverted(
    model: Model, inverted: Inversion, held: Tensor, direction: Direction, strengths: Floats
) -> Edits:
    """Edit inverted photographs, each with its own generator if it has one.

    Args:
        model: that inverted them.
        inverted: N photographs, with their last reconstructions.
        held: [N, S, S, 3] uint8, aligned.
        direction: its name is that of the attribute to score.
        strengths: ascending, with 0.
    """
    latents, photographs = inverted.latents[:, -1], model.preprocess(held)
    against = {
        "reconstruction": _directions(inverted.image),
        "photograph": _directions(photographs),
    }
    kept: dict[str, list[Floats]] = {name: [] for name in IDENTITIES}
    pictures: list[Image.Image] = []
    for strength in strengths:
        moved = apply(latents, direction, float(strength))
        with torch.inference_mode():
            images = (
                render_tuned(model, moved, inverted.weights)
                if inverted.weights
                else model.synthesize(moved)
            )
        pictures += to_pictures(images)
        edited = _directions(images)
        for name, target in against.items():
            kept[name].append((edited * target).sum(axis=1))
    scores = scores_of(pictures, direction.name).reshape(len(strengths), -1).T
    return Edits(strengths, scores, {name: np.stack(each, axis=1) for name, each in kept.items()})


def _directions(images: Tensor) -> Floats:
    """Embeddings [N, 128] at length 1 of aligned images [N, 3, S, S], clamped as when saved."""
    return unit_length(embeddings(images.clamp(-1, 1), FRAMING))


def scores_of(pictures: list[Image.Image], attribute: str, processes: int = 2) -> Floats:
    """[N], NaN where dlib finds no face."""
    parts = [pictures[first : first + _BATCH] for first in range(0, len(pictures), _BATCH)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return np.concatenate([part[attribute] for part in pool.imap(measure, parts)]).astype(float)


def main(
    first: str = typer.Argument("faces64:restyle-e4e"),
    second: str = typer.Argument("faces64:restyle-psp"),
    held_out: Path = typer.Option(help="Crops that no training saw."),
    direction: str = typer.Option("smile", help="One that landmarks can score: smile, pose."),
    changes: str = typer.Option("-0.2,-0.1,0.1,0.2", help="Of the score, to compare at."),
    strengths: str = typer.Option("-3..3/9", help="To edit with; 0 is among them."),
    images: int = 200,
    polish: int = typer.Option(0, help="Steps of optimisation after the first's."),
) -> None:
    """Identity kept by two encoders' edits where both have changed an attribute equally.

    The intervals are bootstrapped over the photographs whose face dlib finds in every edit of both;
    in each resample the strengths are found anew.
    """
    held = CropSet.load([held_out]).images[:images].permute(0, 2, 3, 1)
    amounts = np.array(sorted(parse_strengths(strengths)))
    chosen = find_direction(direction, first)
    both = [
        edit(first, held, chosen, amounts, polish),
        edit(second, held, chosen, amounts),
    ]
    what = f"{first} and {polish} of polish" if polish else first
    title = f"{direction}: {what} against {second}"
    show_edits(title, both, tuple(map(float, changes.split(","))))


def show_edits(title: str, both: Sequence[Edits], changes: Sequence[float]) -> None:
    """Print identities kept by two methods' edits of the same photographs, with 95% intervals.

    Args:
        title: of the table.
        both: of the same photographs; counted are those whose face dlib finds in every edit.
        changes: of the score, to compare at.
    """
    found = np.flatnonzero(np.isfinite(np.concatenate([each.scores for each in both], 1)).all(1))
    table = Table(title=f"{title}, {len(found)} of {len(both[0].scores)} photographs")
    for name in ("change", "strengths", "compared with", "first", "second", "difference"):
        table.add_column(name, justify="right")
    for change in changes:
        at = [each.reached(change, found) for each in both]
        for name, label in IDENTITIES.items():

            def gain(rows: Rows, change: float = change, name: str = name) -> float:
                a, b = (each.kept_at(change, name, found[rows]) for each in both)
                return a - b

            means = [f"{each.kept_at(change, name, found):.4f}" for each in both]
            difference = over_images(len(found), gain).show()
            table.add_row(f"{change:+}", f"{at[0]:.2f}, {at[1]:.2f}", label, *means, difference)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
