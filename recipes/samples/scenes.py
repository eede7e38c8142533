"""Scenes a camera could have taken, each holding the teacher's small square face pictures.

Sizes are (width, height) in pixels; every scene is deterministic in its arguments.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from recipes.samples.paint import (
    Colour,
    Person,
    Placement,
    add_lights,
    add_person,
    cloud,
    continued_background,
    enlarge,
    falloff,
    finish,
    frame,
    plain,
    stick,
    tile_of,
    to_image,
    to_pixels,
    wood,
)


def gathering(
    size: tuple[int, int],
    people: list[tuple[Person, Placement]],
    rng: np.random.Generator,
    lights: int = 14,
) -> Image.Image:
    """Close-ups of people side by side before an out-of-focus background that continues theirs.

    Args:
        size: width and height of the photo.
        people: who stands where; later ones stand in front.
        rng: source of the background's lights and of the grain.
        lights: number of out-of-focus lights.
    """
    canvas = continued_background(size, people)
    add_lights(canvas, lights, rng)
    for person, place in people:
        add_person(canvas, person, place)
    return finish(canvas, rng, grain=2.2)


def framed_wall(
    size: tuple[int, int],
    pictures: list[tuple[Person, Placement]],
    wall: Colour,
    rng: np.random.Generator,
) -> Image.Image:
    """Framed portraits on a papered wall lit from the upper left."""
    width, height = size
    canvas = plain(size, wall)
    stripes = 1 + 0.018 * np.sign(np.sin(np.arange(width) * 2 * np.pi / (width / 9)))
    canvas *= stripes[None, :, None].astype(np.float32)
    canvas *= 1 + 0.05 * cloud(size, 40, rng)
    image = to_image(canvas)
    for index, (person, place) in enumerate(pictures):
        rim = [(58, 40, 28), (26, 26, 28), (176, 142, 82)][index % 3]
        stick(image, frame(person, place.side, rim), place)
    lit = to_pixels(image) * falloff(size, (0.3 * width, 0.2 * height), 0.35)
    return finish(lit, rng, grain=2.0)


def instant_prints(
    size: tuple[int, int],
    pictures: list[tuple[Person, Placement]],
    rng: np.random.Generator,
) -> Image.Image:
    """Instant pictures with their white margins on a wooden table."""
    image = to_image(wood(size, rng))
    for person, place in pictures:
        side = place.side
        margin = round(side * 0.07)
        card = Image.new("RGB", (side + 2 * margin, side + round(side * 0.3)), (244, 241, 233))
        card.paste(enlarge(person, side), (margin, margin))
        stick(image, card, place)
    width, height = size
    lit = to_pixels(image) * falloff(size, (0.7 * width, 0.2 * height), 0.3)
    return finish(lit, rng, grain=2.0)


def video_call(size: tuple[int, int], people: list[Person], columns: int) -> Image.Image:
    """A screenshot of a call: rounded tiles on a dark window with a row of buttons."""
    width, height = size
    image = Image.new("RGB", size, (24, 26, 31))
    draw = ImageDraw.Draw(image)
    rows = -(-len(people) // columns)
    gap, bar = 10, 44
    tile = ((width - gap) // columns - gap, (height - bar - gap) // rows - gap)
    for index, person in enumerate(people):
        x = gap + index % columns * (tile[0] + gap)
        y = gap + index // columns * (tile[1] + gap)
        mask = Image.new("L", tile, 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, tile[0] - 1, tile[1] - 1), 12, fill=255)
        image.paste(tile_of(person, tile), (x, y), mask)
        if index == 1:
            draw.rounded_rectangle(
                (x, y, x + tile[0] - 1, y + tile[1] - 1), 12, outline=(96, 180, 140), width=3
            )
    for index, colour in enumerate([(70, 74, 84), (70, 74, 84), (206, 70, 66)]):
        x = width // 2 + (index - 1) * 52
        y = height - bar // 2 - 4
        draw.ellipse((x - 14, y - 14, x + 14, y + 14), fill=colour)
    return image


def booth_strip(side: int, people: list[Person], rng: np.random.Generator) -> Image.Image:
    """A photo-booth strip: square pictures one above the other on glossy white paper."""
    margin = side // 12
    pitch = side + margin
    image = Image.new("RGB", (side + 2 * margin, pitch * len(people) + 3 * margin), (247, 246, 242))
    for index, person in enumerate(people):
        image.paste(enlarge(person, side), (margin, margin + index * pitch))
    return finish(to_pixels(image), rng, grain=2.5)


def phone(
    size: tuple[int, int], person: Person, tilt: float, rng: np.random.Generator
) -> Image.Image:
    """A selfie on the screen of a phone that lies on a cloth."""
    width, height = size
    weave = np.sin(np.arange(width) * 1.6)[None] * np.sin(np.arange(height) * 1.6)[:, None]
    canvas = plain(size, (92, 112, 122)) * (1 + 0.05 * weave[:, :, None].astype(np.float32))
    image = to_image(canvas * (1 + 0.05 * cloud(size, 50, rng)))
    long, wide = round(0.86 * height), round(0.46 * height)
    body = Image.new("RGBA", (wide, long))
    draw = ImageDraw.Draw(body)
    draw.rounded_rectangle((0, 0, wide - 1, long - 1), wide // 9, fill=(18, 18, 20, 255))
    rim = wide // 28
    tile = tile_of(person, (wide - 2 * rim, long - 6 * rim))
    body.paste(tile, (rim, 3 * rim))
    draw.ellipse((wide / 2 - 4, rim * 1.5 - 4, wide / 2 + 4, rim * 1.5 + 4), fill=(50, 54, 66, 255))
    stick(image, body, Placement((width / 2, height / 2), wide, tilt))
    return finish(to_pixels(image), rng, grain=2.0)


def newspaper(size: tuple[int, int], people: list[Person], rng: np.random.Generator) -> Image.Image:
    """A grey page with a row of pictures over columns of unreadable text; mode L."""
    width, height = size
    image = Image.new("L", size, 226)
    draw = ImageDraw.Draw(image)
    margin = width // 18
    draw.rectangle((margin, margin, width - margin, margin + height // 16), fill=52)
    gap = margin // 2
    side = (width - 2 * margin - gap * (len(people) - 1)) // len(people)
    top = margin + height // 16 + margin
    for index, person in enumerate(people):
        grey = enlarge(person, side).convert("L")
        image.paste(grey, (margin + index * (side + gap), top))
    column = (width - 2 * margin - 2 * gap) // 3
    for index in range(3):
        left = margin + index * (column + gap)
        for y in range(top + side + margin, height - margin, 9):
            end = left + column * (rng.uniform(0.4, 0.8) if rng.random() < 0.12 else 1.0)
            draw.rectangle((left, y, end, y + 3), fill=round(rng.uniform(96, 130)))
    return finish(to_pixels(image.convert("RGB")), rng, grain=3.5).convert("L")


def medallion(side: int, person: Person) -> Image.Image:
    """A round cut-out with a transparent surrounding, mode RGBA."""
    image = enlarge(person, side).convert("RGBA")
    mask = Image.new("L", (4 * side, 4 * side), 0)
    ImageDraw.Draw(mask).ellipse((8, 8, 4 * side - 8, 4 * side - 8), fill=255)
    image.putalpha(mask.resize((side, side), Image.Resampling.LANCZOS))
    return image


def landscape(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Hills under an evening sky, with nobody in it."""
    width, height = size
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = np.array([86, 120, 178], np.float32) * (1 - down) + np.array([244, 190, 140]) * down
    canvas = np.broadcast_to(sky, (height, width, 3)).astype(np.float32)
    across = np.linspace(0, 2 * np.pi, width)
    for layer in range(4):
        phase, pace = rng.uniform(0, 6, 2), rng.uniform(0.6, 1.8, 2)
        ridge = 0.5 + 0.13 * layer
        ridge = ridge + 0.05 * np.sin(pace[0] * across + phase[0])
        ridge = ridge + 0.03 * np.sin(2.7 * pace[1] * across + phase[1])
        below = np.clip((down[:, :, 0] - ridge[None]) * height / 2, 0, 1)[:, :, None]
        colour = np.array([104, 112, 120], np.float32) * (1 - 0.22 * layer)
        canvas = canvas * (1 - below) + colour * below
    return finish(canvas.astype(np.float32), rng, grain=2.0)
