"""From a plan to a photograph's file and its faces."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image

from recipes.photographs import backgrounds
from recipes.photographs.backgrounds import Open
from recipes.photographs.canvas import ORIENTATIONS, Canvas
from recipes.photographs.catalogue import Placed, Plan, group, one_face
from recipes.photographs.sources import Box, SourceFace
from recipes.photographs.truth import Photograph

_QUALITIES = (75, 80, 85, 88, 90, 92, 95)

# Share of photographs that EXIF turns upright.
_TURNED = 0.2

# Exposure in stops: usual ones, and those of the dark subset.
_STOPS = (-1.6, 0.8)
_DARK_STOPS = (-5.5, -3.5)

# Covers of faces: left, top, right, bottom in the square, as a mask, a hand or a hat would lie.
_COVERS: tuple[Box, ...] = (
    (-0.6, 0.1, 0.6, 0.65),
    (0.0, -0.7, 0.7, 0.7),
    (-0.7, -0.7, 0.0, 0.7),
    (-0.6, -0.45, 0.6, -0.1),
)

# The panel of a sheet that shows the head from behind, in shares of the sheet.
_BEHIND = (0.526, 0.08, 0.722, 0.355)


def compose(plan: Plan, open_picture: Open) -> tuple[bytes, Photograph]:
    """A photograph as a file, and its truth."""
    rng = np.random.default_rng(plan.seed)
    if plan.subset == "faceless":
        canvas = Canvas(_faceless(plan, open_picture, rng))
    else:
        canvas = Canvas(backgrounds.any_background(plan.size, open_picture, rng))
        people = (
            group(plan.size, rng) if plan.kind == "group" else [one_face(plan.size, plan.kind, rng)]
        )
        for placed in people:
            _lay(canvas, placed, open_picture, bust=len(people) > 1)
        if plan.kind == "hidden":
            _cover(canvas, rng)
    dark = plan.kind == "dark"
    stops = float(rng.uniform(*(_DARK_STOPS if dark else _STOPS)))
    red, blue = rng.uniform(0.88, 1.12, 2)
    canvas.expose(stops, (float(red), 1.0, float(blue)), float(rng.uniform(0.8, 3.5)), rng)
    orientation = int(rng.choice(ORIENTATIONS[1:])) if rng.random() < _TURNED else 1
    if plan.file.endswith(".png"):
        data = canvas.encode("PNG", 1, compress_level=3)
        orientation = 1
    else:
        data = canvas.encode("JPEG", orientation, **_jpeg(rng))
    return data, Photograph(plan.file, plan.subset, plan.size, orientation, canvas.faces)


def _jpeg(rng: np.random.Generator) -> dict[str, object]:
    quality = int(rng.choice(_QUALITIES))
    full_colour = quality == max(_QUALITIES) and rng.random() < 0.5
    return {
        "quality": quality,
        "subsampling": "4:4:4" if full_colour else "4:2:0",
        "progressive": bool(rng.random() < 0.15),
    }


def _lay(canvas: Canvas, placed: Placed, open_picture: Open, bust: bool) -> None:
    picture = open_picture(placed.source.picture)
    canvas.add(picture, placed.source, (placed.centre, placed.side, placed.roll), bust=bust)


def _cover(canvas: Canvas, rng: np.random.Generator) -> None:
    hue, saturation, value = rng.uniform((0, 0.1, 0.15), (1, 0.6, 0.85))
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    canvas.hide(0, _COVERS[rng.integers(len(_COVERS))], (red, green, blue))


def _faceless(plan: Plan, open_picture: Open, rng: np.random.Generator) -> Image.Image:
    if plan.kind == "things":
        return backgrounds.things(plan.size, plan.detail, open_picture)
    if plan.kind == "texture":
        return backgrounds.texture(plan.size, plan.detail, open_picture)
    if plan.kind == "grounds":
        return backgrounds.grounds(plan.size, plan.detail, open_picture)
    if plan.kind == "painted":
        return backgrounds.painted(plan.size, plan.detail, rng)
    name = f"openpeople/P{int(plan.detail):03d}/assets/character_sheet.jpg"
    sheet = open_picture(name)
    panel = [round(share * n) for share, n in zip(_BEHIND, sheet.size * 2, strict=True)]
    width, height = panel[2] - panel[0], panel[3] - panel[1]
    middle = ((panel[0] + panel[2]) / 2, (panel[1] + panel[3]) / 2)
    canvas = Canvas(backgrounds.painted(plan.size, "cloud", rng))
    head = SourceFace(name, middle, min(width, height) / 2, "frontal", tuple(panel))  # type: ignore[arg-type]
    side = float(rng.uniform(0.15, 0.3)) * min(plan.size)
    centre = (plan.size[0] / 2, plan.size[1] / 2)
    canvas.add(sheet, head, (centre, side, 0.0), bust=False)
    return canvas.image
