"""What the scenes are painted with: surfaces, light, and ways to put a face picture on them.

Colours are float32 arrays [H, W, 3] in 0..255 until they are finished; positions are pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

Pixels = npt.NDArray[np.float32]
Colour = tuple[int, int, int]
Person = Image.Image
"""One teacher image, RGB and square."""


@dataclass(frozen=True)
class Placement:
    """Where a face picture goes: centre and side in pixels, rotation in degrees."""

    centre: tuple[float, float]
    side: int
    tilt: float


def finish(canvas: Pixels, rng: np.random.Generator, grain: float) -> Image.Image:
    """Add the sensor's grain (grey levels, standard deviation) and round to 8 bits."""
    height, width, _ = canvas.shape
    noise = gaussian_filter(rng.normal(0, 1, (height, width)), 0.7) * 2.2 * grain
    return to_image(canvas + noise[:, :, None].astype(np.float32))


def continued_background(size: tuple[int, int], people: list[tuple[Person, Placement]]) -> Pixels:
    """Spread the colours around each head over the whole canvas, as a wide aperture would."""
    width, height = size
    reduction = 4
    small = (height // reduction, width // reduction)
    colour = np.zeros((*small, 3), np.float32)
    weight = np.zeros((*small, 1), np.float32)
    for person, place in people:
        side = max(place.side // reduction, 8)
        picture = to_pixels(person.resize((side, side), Image.Resampling.BOX))
        # Only what surrounds the head counts: the upper part of both side edges.
        ring = np.zeros((side, side, 1), np.float32)
        ring[: int(0.7 * side), : max(side // 12, 1)] = 1
        ring[: int(0.7 * side), -max(side // 12, 1) :] = 1
        left = round(place.centre[0] / reduction - side / 2)
        top = round(place.centre[1] / reduction - side / 2)
        inside = np.s_[max(top, 0) : top + side, max(left, 0) : left + side]
        part = np.s_[
            max(-top, 0) : max(-top, 0) + colour[inside].shape[0],
            max(-left, 0) : max(-left, 0) + colour[inside].shape[1],
        ]
        colour[inside] += (picture * ring)[part]
        weight[inside] += ring[part]
    spread = np.full((*small, 3), 120, np.float32)
    for sigma in (96, 48, 24, 12, 6):
        share = gaussian_filter(weight, [sigma, sigma, 0], mode="nearest")
        mean = gaussian_filter(colour, [sigma, sigma, 0], mode="nearest") / (share + 1e-6)
        trust = np.clip(share / (share.max() * 0.15 + 1e-9), 0, 1)
        spread += (mean - spread) * trust
    return np.array(to_image(spread).resize(size, Image.Resampling.BICUBIC), np.float32)


def add_lights(canvas: Pixels, count: int, rng: np.random.Generator) -> None:
    """Lay translucent discs over the upper part of a canvas: points of light out of focus."""
    height, width, _ = canvas.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(count):
        radius = rng.uniform(0.02, 0.06) * max(width, height)
        centre = rng.uniform(0, width), rng.uniform(0, 0.75 * height)
        distance = np.hypot(x - centre[0], y - centre[1])
        disc = np.clip((radius - distance) / 2.5, 0, 1)[:, :, None]
        tint = np.array([255, rng.uniform(215, 255), rng.uniform(170, 250)], np.float32)
        canvas += disc * (tint - canvas) * rng.uniform(0.06, 0.24)


def add_person(canvas: Pixels, person: Person, place: Placement) -> None:
    """Paste a face picture so that it runs off the lower edge and fades out on its sides."""
    side = place.side
    across = np.minimum(np.arange(side), np.arange(side)[::-1]) / (0.16 * side)
    # The lower edge is outside the canvas unless a tilt lifts a corner of it.
    down = np.minimum(np.arange(side) / (0.1 * side), np.arange(side)[::-1] / (0.04 * side))
    fade = np.minimum(np.clip(across, 0, 1)[None], np.clip(down, 0, 1)[:, None])
    fade = fade * fade * (3 - 2 * fade)
    card = enlarge(person, side).convert("RGBA")
    card.putalpha(Image.fromarray((255 * fade).astype(np.uint8)))
    turned = card.rotate(place.tilt, Image.Resampling.BICUBIC)
    image = to_image(canvas)
    left, top = round(place.centre[0] - side / 2), round(place.centre[1] - side / 2)
    image.paste(turned, (left, top), turned)
    canvas[:] = to_pixels(image)


def frame(picture: Image.Image, side: int, rim: Colour) -> Image.Image:
    """A bevelled frame with a mat around a square picture of ``side`` pixels."""
    mat, edge = round(side * 0.13), round(side * 0.07)
    outer = side + 2 * (mat + edge)
    image = Image.new("RGB", (outer, outer), rim)
    draw = ImageDraw.Draw(image)
    lighter = tuple(min(255, round(channel * 1.35 + 12)) for channel in rim)
    draw.rectangle((0, 0, outer - 1, edge // 2), fill=lighter)
    draw.rectangle((0, 0, edge // 2, outer - 1), fill=lighter)
    draw.rectangle((edge, edge, outer - edge - 1, outer - edge - 1), fill=(238, 234, 224))
    line = edge + mat - 3
    draw.rectangle((line, line, outer - line - 1, outer - line - 1), fill=(190, 184, 170))
    image.paste(enlarge(picture, side), (edge + mat, edge + mat))
    return image


def stick(image: Image.Image, card: Image.Image, place: Placement) -> None:
    """Lay a card on a surface, turned, with a soft shadow down and to the right."""
    turned = card.convert("RGBA").rotate(place.tilt, Image.Resampling.BICUBIC, expand=True)
    left = round(place.centre[0] - turned.width / 2)
    top = round(place.centre[1] - turned.height / 2)
    drop = max(3, place.side // 40)
    shadow = Image.new("L", image.size, 0)
    darkness = turned.getchannel("A").point(lambda value: value * 0.55)
    shadow.paste(darkness, (left + drop, top + drop))
    image.paste((12, 10, 8), (0, 0), shadow.filter(ImageFilter.GaussianBlur(drop)))
    image.paste(turned, (left, top), turned)


def tile_of(person: Person, size: tuple[int, int]) -> Image.Image:
    """One participant: the picture at full height before its own blurred colours."""
    width, height = size
    side = min(width, height)
    blurred = enlarge(person, max(size)).filter(ImageFilter.GaussianBlur(max(size) / 12))
    left, top = (blurred.width - width) // 2, (blurred.height - height) // 2
    tile = blurred.crop((left, top, left + width, top + height))
    fade = np.clip(np.minimum(np.arange(side), np.arange(side)[::-1]) / (0.1 * side), 0, 1)
    fade = (
        np.repeat(fade[None], side, axis=0) if width > height else np.repeat(fade[:, None], side, 1)
    )
    place = ((width - side) // 2, (height - side) // 2)
    tile.paste(enlarge(person, side), place, Image.fromarray((255 * fade).astype(np.uint8)))
    return tile


def wood(size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Brown boards with long grain."""
    width, height = size
    grain = gaussian_filter(rng.normal(0, 1, (height, width)), [0.8, 60], mode="wrap")
    waves = gaussian_filter(rng.normal(0, 1, (height, width)), [6, 160], mode="wrap")
    tone = grain / grain.std() * 0.06 + waves / waves.std() * 0.09
    seams = np.ones(height)
    seams[:: max(height // 4, 1)] = 0.6
    tone = (1 + tone) * gaussian_filter(seams, 0.8)[:, None]
    boards: Pixels = (np.array([132, 92, 60], np.float32) * tone[:, :, None]).astype(np.float32)
    return boards


def cloud(size: tuple[int, int], sigma: float, rng: np.random.Generator) -> Pixels:
    """Smooth noise [H, W, 1] of unit variance; ``sigma`` is its coarseness in pixels."""
    width, height = size
    noise = gaussian_filter(rng.normal(0, 1, (height, width)), sigma)
    unit: Pixels = (noise / noise.std()).astype(np.float32)[:, :, None]
    return unit


def falloff(size: tuple[int, int], centre: tuple[float, float], loss: float) -> Pixels:
    """Brightness [H, W, 1] of a lamp at ``centre``; ``loss`` is what one diagonal takes away."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot(x - centre[0], y - centre[1]) / np.hypot(width, height)
    brightness: Pixels = (1.08 - loss * distance)[:, :, None].astype(np.float32)
    return brightness


def plain(size: tuple[int, int], colour: Colour) -> Pixels:
    """A canvas of one colour."""
    return np.broadcast_to(np.array(colour, np.float32), (size[1], size[0], 3)).copy()


def enlarge(picture: Image.Image, side: int) -> Image.Image:
    """Scale a square picture smoothly."""
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def to_pixels(image: Image.Image) -> Pixels:
    """Float pixels of an 8-bit image."""
    return np.asarray(image, np.float32)


def to_image(pixels: Pixels) -> Image.Image:
    """Round and clip to 8 bits."""
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
