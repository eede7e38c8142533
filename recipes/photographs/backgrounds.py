"""Backgrounds without faces: painted scenes, photographs of things, textures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from recipes.samples import paint, scenes

Size = tuple[int, int]
Open = Callable[[str], Image.Image]
"""Opens a picture of a package by its name."""

THINGS = (
    "sklearn/china.jpg",
    "sklearn/flower.jpg",
    "skimage/coffee.png",
    "skimage/rocket.jpg",
    "skimage/motorcycle_left.png",
    "skimage/chelsea.png",
    "skimage/retina.jpg",
    "skimage/hubble_deep_field.jpg",
)
TEXTURES = ("skimage/brick.png", "skimage/grass.png", "skimage/gravel.png", "skimage/coins.png")
PEOPLE = tuple(f"openpeople/P{number:03d}/assets/amateur_posture.jpg" for number in range(1, 11))

# Painted at this reduction and enlarged: the painter's filters take long at megapixels.
_REDUCTION = 4

# The heads of whole people end above this share of a picture's height.
_BELOW_HEAD = 0.32


def things(size: Size, name: str, open_picture: Open) -> Image.Image:
    """A photograph of a thing, enlarged to fill."""
    return ImageOps.fit(open_picture(name), size, Image.Resampling.BICUBIC)


def texture(size: Size, name: str, open_picture: Open) -> Image.Image:
    """A texture in tiles, each mirrored beside the last."""
    tile = np.asarray(open_picture(name))
    pair = np.concatenate([tile, tile[:, ::-1]], axis=1)
    block = np.concatenate([pair, pair[::-1]])
    repeats = (-(-size[1] // block.shape[0]), -(-size[0] // block.shape[1]), 1)
    return Image.fromarray(np.tile(block, repeats)[: size[1], : size[0]])


def grounds(size: Size, name: str, open_picture: Open) -> Image.Image:
    """What lies around a person below the head: grass, wood, clothes."""
    picture = open_picture(name)
    top = round(_BELOW_HEAD * picture.height)
    return ImageOps.fit(picture.crop((0, top, *picture.size)), size, Image.Resampling.BICUBIC)


def painted(size: Size, name: str, rng: np.random.Generator) -> Image.Image:
    """A painted scene: ``landscape``, ``wood`` or ``cloud``."""
    small = (-(-size[0] // _REDUCTION), -(-size[1] // _REDUCTION))
    if name == "landscape":
        image = scenes.landscape(small, rng)
    elif name == "wood":
        image = paint.to_image(paint.wood(small, rng))
    else:
        colour = tuple(int(value) for value in rng.integers(60, 200, 3))
        wall = paint.plain(small, colour) * (1 + 0.15 * paint.cloud(small, 30, rng))  # type: ignore[arg-type]
        image = paint.to_image(wall)
    return image.resize(size, Image.Resampling.BICUBIC)


def any_background(size: Size, open_picture: Open, rng: np.random.Generator) -> Image.Image:
    """One of all, at times out of focus."""
    kind = rng.choice(["things", "texture", "grounds", "painted"], p=[0.2, 0.1, 0.4, 0.3])
    if kind == "things":
        image = things(size, str(rng.choice(THINGS)), open_picture)
    elif kind == "texture":
        image = texture(size, str(rng.choice(TEXTURES)), open_picture)
    elif kind == "grounds":
        image = grounds(size, str(rng.choice(PEOPLE)), open_picture)
    else:
        image = painted(size, str(rng.choice(["landscape", "wood", "cloud"])), rng)
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.BoxBlur(max(size) / 150))
    return image
