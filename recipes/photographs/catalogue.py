"""Which photographs there are: name, subset, size and what is composed, all from a seed."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recipes.photographs import backgrounds
from recipes.photographs.sources import SourceFace, source_faces
from recipes.photographs.truth import Subset

# Size, photographs of one face, photographs of several.
STANDARD = (
    ((1024, 1024), 36, 14),
    ((2048, 2048), 44, 16),
    ((4000, 3000), 36, 14),
    ((3024, 4032), 6, 2),
    ((970, 2204), 8, 2),
    ((1434, 2333), 8, 2),
    ((1600, 1200), 6, 4),
    ((5184, 3456), 3, 1),
)
_HARD_SIZES = ((1024, 1024), (1600, 1200), (2048, 2048))
_HARD = (("three-quarter", 24), ("profile", 16), ("small", 20), ("dark", 20), ("hidden", 20))
_FACELESS_SIZES = ((1024, 1024), (2048, 2048), (2400, 1800), (4000, 3000))

LEAST, MOST = 60, 1500
"""Sides of standard faces in pixels."""

_SMALL = (24, 48)
_MOST_ROLL = 30

# A picture is enlarged at most so far.
_ENLARGED = 2.2

# Share of photographs of one face that are a whole picture, of at least this width.
_WHOLE = 0.55
_LEAST_WHOLE = 900

# Width and height that a bust takes in its cell, in sides of its face.
_CELL = (2.4, 2.8)


@dataclass(frozen=True)
class Plan:
    """A photograph to compose.

    Attributes:
        file: path below the folder.
        subset: as in the truth.
        size: width and height, upright.
        kind: ``one``, ``group``, a kind of hard photograph, or a kind of background.
        detail: of a faceless photograph: the picture or scene.
        seed: of its random numbers.
    """

    file: str
    subset: Subset
    size: tuple[int, int]
    kind: str
    detail: str
    seed: tuple[int, int]


@dataclass(frozen=True)
class Placed:
    """A face to lay: where from, centre, side, roll."""

    source: SourceFace
    centre: tuple[float, float]
    side: float
    roll: float


def plans(seed: int) -> Iterator[Plan]:
    """All composed photographs, in the order of their names' subsets."""
    for subset, size, kind, detail, name in itertools.chain(_standard(), _hard(), _faceless()):
        own = zlib.crc32(name.encode())
        yield Plan(f"{subset}/{name}", subset, size, kind, detail, (seed, own))


_Row = tuple[Subset, tuple[int, int], str, str, str]


def _standard() -> Iterator[_Row]:
    for size, ones, groups in STANDARD:
        for kind, count in (("one", ones), ("group", groups)):
            for index in range(count):
                ending = "png" if size == (1434, 2333) and index == 0 else "jpg"
                name = f"{size[0]}x{size[1]}-{kind}-{index:02d}.{ending}"
                yield "standard", size, kind, "", name


def _hard() -> Iterator[_Row]:
    for kind, count in _HARD:
        for index in range(count):
            size = _HARD_SIZES[index % len(_HARD_SIZES)]
            yield "hard", size, kind, "", f"{kind}-{index:02d}.jpg"


def _faceless() -> Iterator[_Row]:
    sizes = itertools.cycle(_FACELESS_SIZES)
    kinds = [
        *(("things", name) for name in backgrounds.THINGS),
        *(("texture", name) for name in backgrounds.TEXTURES),
        *(("grounds", name) for name in backgrounds.PEOPLE),
        *(("painted", name) for name in ("landscape", "wood", "cloud") * 4),
        *(("behind", str(number)) for number in range(1, 11)),
    ]
    for index, (kind, detail) in enumerate(kinds):
        yield "faceless", next(sizes), kind, detail, f"{kind}-{index:02d}.jpg"


def one_face(size: tuple[int, int], kind: str, rng: np.random.Generator) -> Placed:
    """A face somewhere in a photograph; ``kind`` is that of a plan."""
    # Most heads are nearly upright.
    roll = _MOST_ROLL * float(rng.uniform(-1, 1)) ** 3
    if kind == "one" and rng.random() < _WHOLE:
        return _whole(size, roll, rng)
    low, high = _sides(size, kind)
    side = math.exp(rng.uniform(math.log(low), math.log(high)))
    able = [face for face in source_faces() if _fits(face, kind)]
    side = min(side, max(face.side for face in able) * _ENLARGED)
    able = [face for face in able if face.side * _ENLARGED >= side]
    source = able[rng.integers(len(able))]
    margin = 0.75 * side
    x, y = (float(rng.uniform(margin, n - margin)) for n in size)
    return Placed(source, (x, y), side, roll)


def _whole(size: tuple[int, int], roll: float, rng: np.random.Generator) -> Placed:
    """A whole picture that covers the photograph, or nearly where it is turned."""
    able = [face for face in source_faces() if face.whole and face.panel[2] > _LEAST_WHOLE]
    source = able[rng.integers(len(able))]
    extent = source.panel[2:]
    cover = max(n / length for n, length in zip(size, extent, strict=True))
    side = min(cover * source.side * float(rng.uniform(1, 1.4)), MOST)
    scale = side / source.side
    centre = []
    for n, length, place in zip(size, extent, source.centre, strict=True):
        low, high = n - scale * (length - place), scale * place
        # The face stays inside where the picture leaves a choice.
        low, high = (max(low, min(0.6 * side, high)), min(high, max(n - 0.6 * side, low)))
        centre.append(float(rng.uniform(min(low, high), max(low, high))))
    return Placed(source, (centre[0], centre[1]), side, roll)


def group(size: tuple[int, int], rng: np.random.Generator) -> list[Placed]:
    """Two to twelve people in cells of a grid, each of another size and roll."""
    count = int(rng.integers(2, 13))
    columns = min(max(round(math.sqrt(count * size[0] / size[1])), 1), count)
    rows = -(-count // columns)
    cell = (size[0] / columns, size[1] / rows)
    limit = min(cell[0] / _CELL[0], cell[1] / _CELL[1], MOST)
    people: dict[str, list[SourceFace]] = {}
    for face in source_faces():
        if _fits(face, "group"):
            people.setdefault(face.person, []).append(face)
    chosen = rng.permutation(sorted(people))[:count]
    placed = []
    for index, person in enumerate(chosen):
        side = math.exp(rng.uniform(math.log(max(0.4 * limit, LEAST)), math.log(max(limit, LEAST))))
        able = sorted(people[person], key=lambda face: face.side)
        able = [face for face in able if face.side * _ENLARGED >= side] or able[-1:]
        source = able[rng.integers(len(able))]
        side = max(min(side, source.side * _ENLARGED), LEAST)
        # A bust reaches further down than up.
        room = [(n - share * side) / 2 for n, share in zip(cell, _CELL, strict=True)]
        x, y = (rng.uniform(-max(spare, 0), max(spare, 0)) for spare in room)
        centre = (
            (index % columns + 0.5) * cell[0] + float(x),
            (index // columns + 0.5) * cell[1] + float(y) - 0.2 * side,
        )
        placed.append(Placed(source, centre, side, float(rng.uniform(-0.5, 0.5) * _MOST_ROLL)))
    return placed


def _sides(size: tuple[int, int], kind: str) -> tuple[float, float]:
    if kind == "small":
        return _SMALL
    most = min(MOST, 0.6 * min(size))
    return (LEAST, most) if kind == "one" else (LEAST, min(most, 500))


def _fits(face: SourceFace, kind: str) -> bool:
    if kind in ("three-quarter", "profile"):
        return face.yaw == kind
    return face.yaw == "frontal"
