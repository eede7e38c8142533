"""Measure what the convolutional detector says of the frontal detector's faces of low score.

Prints a line for each place: whether a face is there, the frontal detector's score, and the
network's largest one there when the face has 60, 80, 100 and 130 pixels.
"""

from __future__ import annotations

from pathlib import Path

import typer

from recipes.detection.table import shows
from recipes.photographs.truth import read_truth
from restyle.core.faces import cnn
from restyle.core.faces.detection import SURE
from restyle.core.faces.hog.search import find_all
from restyle.core.imaging.decoding import decode_image

_LOW = 1.5
_SIDES = (60, 80, 100, 130)


def main(folder: Path = typer.Argument(help="A folder of recipes.photographs.")) -> None:
    """Print the lines, and how many photographs have a place of low score."""
    photographs, asked = 0, 0
    for photograph in read_truth(folder):
        image = decode_image((folder / photograph.file).read_bytes()).convert("RGB")
        found = find_all(image)
        photographs += 1
        asked += any(score < SURE for _, score in found)
        for box, score in found:
            if score < _LOW:
                is_face = any(shows(box, face) for face in photograph.faces)
                scores = " ".join(f"{cnn.score_at(image, box, side):5.2f}" for side in _SIDES)
                print(f"{is_face!s:5} {score:5.2f} {scores} {photograph.file}", flush=True)
    print(f"{asked} of {photographs} photographs have a score below {SURE}")


if __name__ == "__main__":
    typer.run(main)
