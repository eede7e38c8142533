"""The sample photographs: which people stand in which scene, and how each file is encoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from recipes.samples import scenes
from recipes.samples.paint import Colour, Person, Placement

Draw = Callable[[int], Person]
"""Gives the teacher's picture of a seed."""

Scene = Callable[[Draw, np.random.Generator], Image.Image]

Standing = tuple[int, float, float, int, float]
"""Seed of a person, then x, y, side and tilt of its picture."""


@dataclass(frozen=True)
class Photo:
    """One file: its name, how many faces stand in it, its scene, and how it is encoded."""

    name: str
    faces: int
    scene: Scene
    encoding: dict[str, Any] = field(default_factory=lambda: {"quality": 88})
    orientation: int = 1


def _placed(draw: Draw, people: tuple[Standing, ...]) -> list[tuple[Person, Placement]]:
    return [(draw(seed), Placement((x, y), side, tilt)) for seed, x, y, side, tilt in people]


def _close(size: tuple[int, int], *people: Standing) -> Scene:
    def paint(draw: Draw, rng: np.random.Generator) -> Image.Image:
        return scenes.gathering(size, _placed(draw, people), rng)

    return paint


def _wall(
    size: tuple[int, int],
    colour: Colour,
    *people: Standing,
) -> Scene:
    def paint(draw: Draw, rng: np.random.Generator) -> Image.Image:
        return scenes.framed_wall(size, _placed(draw, people), colour, rng)

    return paint


def _prints(size: tuple[int, int], *people: Standing) -> Scene:
    def paint(draw: Draw, rng: np.random.Generator) -> Image.Image:
        return scenes.instant_prints(size, _placed(draw, people), rng)

    return paint


def _call(size: tuple[int, int], columns: int, *seeds: int) -> Scene:
    return lambda draw, rng: scenes.video_call(size, [draw(seed) for seed in seeds], columns)


def _booth(side: int, *seeds: int) -> Scene:
    return lambda draw, rng: scenes.booth_strip(side, [draw(seed) for seed in seeds], rng)


def _phone(size: tuple[int, int], seed: int, tilt: float) -> Scene:
    return lambda draw, rng: scenes.phone(size, draw(seed), tilt, rng)


def _newspaper(size: tuple[int, int], *seeds: int) -> Scene:
    return lambda draw, rng: scenes.newspaper(size, [draw(seed) for seed in seeds], rng)


def _medallion(side: int, seed: int) -> Scene:
    return lambda draw, rng: scenes.medallion(side, draw(seed))


PHOTOS = [
    Photo("street-lights.jpg", 1, _close((640, 460), (500147, 330, 240, 470, -9))),
    Photo("garden.jpg", 1, _close((480, 520), (500000, 250, 275, 490, 3))),
    Photo("evening.jpg", 1, _close((600, 440), (500465, 250, 225, 450, 6))),
    Photo("terrace.jpg", 1, _close((460, 560), (500221, 230, 310, 480, -5))),
    Photo("blue hat.jpg", 1, _close((560, 420), (500305, 300, 215, 430, 4))),
    Photo("smile.jpg", 1, _close((640, 420), (500263, 380, 215, 430, -3))),
    Photo(
        "two friends.jpg",
        2,
        _close((820, 440), (500172, 235, 230, 450, 4), (500413, 585, 230, 450, -5)),
    ),
    Photo(
        "three-at-the-window.jpg",
        3,
        _close(
            (900, 380),
            (500470, 160, 200, 390, 3),
            (500313, 450, 203, 390, -3),
            (500466, 740, 200, 390, 5),
        ),
    ),
    Photo("wall-one.jpg", 1, _wall((420, 480), (150, 170, 160), (500411, 205, 235, 220, 1.5))),
    Photo(
        "wall-two.jpg",
        2,
        _wall((720, 460), (186, 180, 158), (500080, 200, 230, 210, 1), (500357, 520, 235, 200, -2)),
    ),
    Photo(
        "wall-three.jpg",
        3,
        _wall(
            (900, 420),
            (158, 132, 128),
            (500109, 165, 205, 180, -1),
            (500406, 450, 215, 190, 0.6),
            (500177, 735, 205, 180, 2),
        ),
    ),
    Photo(
        "table.jpg",
        2,
        _prints((640, 480), (500458, 190, 235, 220, 9), (500460, 450, 250, 220, -12)),
    ),
    Photo("table-one.jpg", 1, _prints((480, 420), (500275, 235, 205, 240, -14))),
    Photo("video call.jpg", 4, _call((720, 560), 2, 500025, 500399, 500144, 500185)),
    Photo("album/photo-booth.jpg", 3, _booth(240, 500330, 500298, 500375)),
    Photo("album/photo-booth-2.jpg", 4, _booth(230, 500202, 500074, 500253, 500437)),
    Photo("album/2026/selfie.jpg", 1, _phone((480, 600), 500497, 12)),
    Photo("album/2026/selfie-2.jpg", 1, _phone((520, 560), 500472, -8)),
    Photo("album/2026/market.jpg", 1, _close((520, 420), (500240, 270, 215, 430, -4))),
    Photo("album/2026/lake.jpg", 1, _close((640, 400), (500487, 250, 205, 410, 3))),
    Photo(
        "album/2026/rotated by exif.jpg",
        1,
        _close((440, 560), (500033, 220, 300, 470, 4)),
        orientation=6,
    ),
    Photo(
        "album/2026/upside-down by exif.jpg",
        2,
        _prints((640, 460), (500041, 190, 225, 210, -6), (500476, 450, 235, 210, 11)),
        orientation=3,
    ),
    Photo("newspaper, grey.jpg", 2, _newspaper((500, 620), 500324, 500449)),
    Photo(
        "hallway.png",
        1,
        _wall((360, 400), (170, 186, 196), (500099, 180, 195, 200, 0)),
        {"optimize": True},
    ),
    Photo("badge, transparent.png", 1, _medallion(320, 500229), {"optimize": True}),
    Photo(
        "party.webp",
        3,
        _close(
            (880, 400),
            (500162, 160, 210, 400, -4),
            (500158, 440, 205, 400, 4),
            (500351, 720, 208, 400, -2),
        ),
        {"quality": 88},
    ),
    Photo("call.webp", 2, _call((640, 360), 2, 500124, 500365), {"quality": 88}),
    Photo("archive.tif", 1, _newspaper((340, 480), 500477), {"compression": "tiff_lzw"}),
]
