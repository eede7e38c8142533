"""Measure when landmarks of turned and rotated heads are wrong.

Prints a line for each face: how far the two predictors are apart, and the rotation of the crop
against the head, for the 68-point predictor alone and with rotated copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import typer
from PIL import Image

from recipes.photographs.truth import read_truth
from restyle.core.faces import cnn
from restyle.core.faces.landmarks import PREDICTORS
from restyle.core.faces.turned import Box, FloatArray, TurnedFit, fit_turned
from restyle.core.faces.turned import _compare as fit_upright
from restyle.core.imaging.decoding import decode_image

_SIDE = 640
_ROTATED = (30, 45, 60, 75, 90, 180)
_UPRIGHT = 12


def faces(folder: Path) -> Iterator[tuple[str, Image.Image, Box, float]]:
    """Turned heads, and rotated frontal ones: name, photograph, box, clockwise rotation."""
    upright = 0
    for photograph in read_truth(folder):
        if len(photograph.faces) != 1 or photograph.subset not in ("hard", "standard"):
            continue
        (face,) = photograph.faces
        is_frontal = face.yaw == "frontal"
        if is_frontal and (photograph.subset == "hard" or upright == _UPRIGHT):
            continue
        image = decode_image((folder / photograph.file).read_bytes()).convert("RGB")
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
        for box, _ in cnn.find_faces(image, small=False)[:1]:
            yield photograph.file, image, box, -face.roll
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            upright += is_frontal
            for angle in _ROTATED if is_frontal else ():
                rotated = image.rotate(-angle, Image.Resampling.BICUBIC, center=middle)
                yield photograph.file, rotated, box, angle - face.roll


def _against(fit: TurnedFit, roll: float) -> float:
    """Rotation in degrees of a crop against the head."""
    points: FloatArray = fit.landmarks
    across = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
    return (math.degrees(math.atan2(across[1], across[0])) - roll + 180) % 360 - 180


def main(folder: Path = typer.Argument(help="A folder of recipes.photographs.")) -> None:
    """Print the lines."""
    for name, image, box, roll in faces(folder):
        alone = fit_upright(image, box, PREDICTORS)
        best = fit_turned(image, box, PREDICTORS)
        print(
            f"{name} rotated {roll:4.0f}: alone {alone.apart:.2f} apart, "
            f"off by {_against(alone, roll):4.0f}; best {best.apart:.2f} apart, "
            f"off by {_against(best, roll):4.0f}, turned by {best.turn:.0f}"
        )


if __name__ == "__main__":
    typer.run(main)
