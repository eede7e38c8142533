"""The pictures that photographs are composed of, and the faces in them.

``faces.csv`` beside this file has a row for each face: the picture, centre and side of the square
from brows to chin in its pixels, the yaw class, and the panel that it stands in (left, top, right,
bottom): one of a sheet, or the whole picture. The squares began as detections of dlib and were
checked by eye.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

from recipes.photographs.truth import Yaw

_FACES = Path(__file__).parent / "faces.csv"

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class SourceFace:
    """A face in a picture of a package.

    Attributes:
        picture: its name, see :func:`recipes.photographs.packages.read`.
        centre: of the square, in pixels of the picture.
        side: of the square.
        yaw: class of the head's turn.
        panel: part of the picture that belongs to the face.
    """

    picture: str
    centre: tuple[float, float]
    side: float
    yaw: Yaw
    panel: Box

    @property
    def whole(self) -> bool:
        """Whether the picture is a photograph of its own, not a sheet of panels."""
        return self.panel[:2] == (0, 0)

    @property
    def person(self) -> str:
        """Who it is: no photograph has somebody twice."""
        return "/".join(self.picture.split("/")[:2])


@functools.cache
def source_faces() -> tuple[SourceFace, ...]:
    """All faces, in the order of the file."""
    with _FACES.open(newline="") as file:
        return tuple(_face(row) for row in csv.DictReader(file))


def _face(row: dict[str, str]) -> SourceFace:
    left, top, right, bottom = (float(value) for value in row["panel"].split())
    return SourceFace(
        row["picture"],
        (float(row["x"]), float(row["y"])),
        float(row["side"]),
        row["yaw"],  # type: ignore[arg-type]
        (left, top, right, bottom),
    )
