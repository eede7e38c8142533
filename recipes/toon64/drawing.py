"""The features of a cartoon face, drawn along 68 landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

Points = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Colour = tuple[int, int, int]

JAW, NOSTRILS = slice(0, 17), slice(31, 36)
BROWS = (slice(17, 22), slice(22, 27))
EYES = (slice(36, 42), slice(42, 48))
MOUTH, INNER_MOUTH = slice(48, 60), slice(60, 68)

_INK = np.array([0.13, 0.08, 0.08])
_EYE_GROWTH = np.array([1.45, 1.5])
_LEAST_OPENING = 0.52


@dataclass(frozen=True)
class Features:
    """What is drawn.

    Attributes:
        landmarks: [68, 2] in pixels.
        skin: [3] in [0, 1].
        hair: [3] in [0, 1], for the brows.
    """

    landmarks: Points
    skin: Floats
    hair: Floats


def to_colour(values: npt.ArrayLike) -> Colour:
    """[3] in [0, 1] -> three bytes."""
    red, green, blue = (np.clip(np.asarray(values), 0, 1) * 255).round().astype(int)
    return int(red), int(green), int(blue)


def smooth_contour(points: Points, *, closed: bool, samples: int = 8) -> list[tuple[float, float]]:
    """A Catmull-Rom curve through [N, 2] points, as a polyline."""
    padded = (
        np.concatenate([points[-1:], points, points[:2]])
        if closed
        else np.concatenate([points[:1], points, points[-1:]])
    )
    t = np.linspace(0, 1, samples, endpoint=False)[:, None]
    parts = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        parts.append(
            0.5
            * (
                2 * start
                + (end - before) * t
                + (2 * before - 5 * start + 4 * end - after) * t**2
                + (3 * start - before - 3 * end + after) * t**3
            )
        )
    curve = np.concatenate([*parts, padded[-2:-1]])
    return [(float(x), float(y)) for x, y in curve]


def face_mask(landmarks: Points, side: int) -> Floats:
    """How much of each pixel [S, S] is skin of the face: jaw to a little above the brows."""
    brows = landmarks[26:16:-1].copy()
    height = landmarks[8, 1] - landmarks[27, 1]
    brows[:, 1] -= 0.16 * height
    outline = np.concatenate([landmarks[JAW], brows])
    canvas = Image.new("L", (side, side))
    ImageDraw.Draw(canvas).polygon(smooth_contour(outline, closed=True), fill=255)
    soft = ndimage.gaussian_filter(np.asarray(canvas, np.float32) / 255, 0.012 * side)
    return np.asarray(soft, np.float32)


def draw_features(image: Image.Image, features: Features) -> Image.Image:
    """Draw jaw, nose, mouth, eyes and brows onto an image."""
    side = image.size[0]
    draw = ImageDraw.Draw(image)
    points = features.landmarks
    line = max(1, round(0.014 * side))
    shade = to_colour(0.45 * features.skin)
    draw.line(smooth_contour(points[JAW][1:16], closed=False), shade, line, "curve")
    draw.line(smooth_contour(points[NOSTRILS], closed=False), shade, line, "curve")
    _draw_mouth(draw, points, features.skin, line)
    for eye in EYES:
        _draw_eye(draw, points[eye], line)
    for brow in BROWS:
        raised = points[brow] - np.array([0, 0.015 * side])
        draw.line(smooth_contour(raised, closed=False), to_colour(features.hair), 2 * line, "curve")
    return image


def _draw_mouth(draw: ImageDraw.ImageDraw, points: Points, skin: Floats, line: int) -> None:
    outer, inner = points[MOUTH], points[INNER_MOUTH]
    lips = 0.45 * skin + 0.55 * (skin @ np.array([0.299, 0.587, 0.114])) * np.array(
        [1.5, 0.62, 0.6]
    )
    draw.polygon(smooth_contour(outer, closed=True), fill=to_colour(lips))
    opening = float(np.ptp(inner[:, 1]))
    if opening > 0.08 * np.ptp(outer[:, 0]):
        inside = smooth_contour(inner, closed=True)
        draw.polygon(inside, fill=to_colour((0.35, 0.07, 0.09)))
        # The upper teeth: the inner upper lip and the same curve a little lower.
        upper = inner[:5]
        depth = min(0.45 * opening, 0.12 * float(np.ptp(outer[:, 0])))
        lower = upper[::-1] + np.array([0, depth])
        lower[0], lower[-1] = upper[-1], upper[0]
        draw.polygon([tuple(p) for p in np.concatenate([upper, lower])], fill=(245, 240, 235))
        draw.line([*inside, inside[0]], to_colour(_INK), max(1, line // 2), "curve")
    else:
        middle = (inner[1:4] + inner[[7, 6, 5]]) / 2
        seam = np.concatenate([inner[:1], middle, inner[4:5]])
        draw.line(smooth_contour(seam, closed=False), to_colour(_INK), line, "curve")


def _draw_eye(draw: ImageDraw.ImageDraw, eye: Points, line: int) -> None:
    centre = eye.mean(axis=0)
    shape = (eye - centre) * _EYE_GROWTH
    width, opening = float(np.ptp(shape[:, 0])), float(np.ptp(shape[:, 1]))
    shape[:, 1] *= max(1.0, _LEAST_OPENING * width / max(opening, 1e-3))
    contour = smooth_contour(centre + shape, closed=True)
    ink = to_colour(_INK)
    draw.polygon(contour, fill=(250, 250, 248))
    half = float(np.ptp(shape[:, 1])) / 2
    _disc(draw, centre, 0.86 * half, to_colour((0.28, 0.17, 0.1)))
    _disc(draw, centre, 0.5 * half, ink)
    _disc(draw, centre + np.array([0.3, -0.35]) * half, 0.24 * half, (255, 255, 255))
    upper = smooth_contour(centre + shape[:4], closed=False)
    draw.line([*contour, contour[0]], ink, max(1, line // 2), "curve")
    draw.line(upper, ink, round(1.6 * line), "curve")


def _disc(draw: ImageDraw.ImageDraw, centre: Points, radius: float, colour: Colour) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
