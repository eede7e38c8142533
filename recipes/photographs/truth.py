"""The faces of each photograph: ``truth.json``.

The file is an object ``{"seed": int, "photographs": [...]}``. Sizes and positions are in pixels of
the upright photograph. A photograph has ``file`` (below the folder), ``subset``, ``size`` (width,
height), ``orientation`` (EXIF) and ``faces``. A face has ``centre`` (x, y), ``side`` of the square
from brows to chin, as the boxes of dlib's detectors are, ``roll`` in degrees counterclockwise on
the screen, ``yaw``, ``hidden`` (partly covered) and ``source``, the picture it was taken from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

FILE = "truth.json"

Subset = Literal["standard", "originals", "hard", "faceless"]
Yaw = Literal["frontal", "three-quarter", "profile"]


@dataclass(frozen=True)
class Face:
    """A face in a photograph; attributes as above."""

    centre: tuple[float, float]
    side: float
    roll: float = 0.0
    yaw: Yaw = "frontal"
    hidden: bool = False
    source: str = ""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the square, not rotated."""
        (x, y), half = self.centre, self.side / 2
        return x - half, y - half, x + half, y + half


@dataclass(frozen=True)
class Photograph:
    """A photograph and its faces; attributes as above."""

    file: str
    subset: Subset
    size: tuple[int, int]
    orientation: int = 1
    faces: list[Face] = field(default_factory=list)


def write_truth(folder: Path, seed: int, photographs: Sequence[Photograph]) -> None:
    """Write ``truth.json``."""
    rows = [asdict(photograph) for photograph in photographs]
    text = ",\n".join(json.dumps(row) for row in rows)
    (folder / FILE).write_text(f'{{"seed": {seed}, "photographs": [\n{text}\n]}}\n')


def read_truth(folder: Path) -> list[Photograph]:
    """The photographs of ``truth.json``, in its order."""
    return [_photograph(**row) for row in json.loads((folder / FILE).read_text())["photographs"]]


def _photograph(faces: list[dict[str, Any]], size: list[int], **row: Any) -> Photograph:
    found = [Face(**{**face, "centre": tuple(face["centre"])}) for face in faces]
    return Photograph(size=(size[0], size[1]), faces=found, **row)
