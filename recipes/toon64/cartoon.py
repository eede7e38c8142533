"""A cartoon of an aligned face, drawn by rule: the same picture gives the same drawing.

The ground is the photograph itself, smoothed without blurring its edges and flattened into few
tones, with dark lines where a difference of Gaussians is negative: the order of Winnemöller, Olsen
and Gooch, "Real-Time Video Abstraction" (2006). The smoothing is the guided filter of He, Sun and
Tang (2010). On this ground the face is drawn along dlib's landmarks: one colour of skin in light,
half-light and shade, large eyes, brows, a nose, a mouth, the line of the jaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from recipes.toon64.drawing import Features, draw_features, face_mask
from restyle.core.faces.landmarks import fit_landmarks

Floats = npt.NDArray[np.float32]

GROUND = 128
"""Side in pixels at which the ground is computed."""

SIZE = 256
"""Side in pixels of a drawing."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Style:
    """How strong each part of the drawing is; lengths are shares of the image's side.

    Attributes:
        tone: luminance that skin is brought towards, in [0, 1].
        toning: how far, from 0 (as photographed) to 1 (every skin equally light).
        smoothing: radius of the guided filter.
        edge: difference in [0, 1] above which an edge survives the smoothing.
        steps: flat levels of luminance.
        saturation: factor on the distance from grey.
        flatness: how far skin is pulled to its one colour, in [0, 1].
        line: width of the finer Gaussian under the lines.
        line_slope: hardness and darkness of the lines.
    """

    tone: float = 0.68
    toning: float = 0.6
    smoothing: float = 0.03
    edge: float = 0.06
    steps: int = 4
    saturation: float = 1.3
    flatness: float = 0.85
    line: float = 0.012
    line_slope: float = 28.0


def cartoon(image: Image.Image, style: Style = Style()) -> Image.Image:
    """Draw an aligned face as a cartoon.

    Args:
        image: RGB, square, one aligned face.
        style: how.

    Returns:
        RGB of 256x256 pixels.
    """
    side = GROUND
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    landmarks = fit_landmarks(stretched(np.asarray(image)))
    mask = face_mask(landmarks, side)
    pixels = lift_tones(np.asarray(image, np.float32) / np.float32(255), mask, style)
    radius = max(1, round(style.smoothing * side))
    smooth = guided(guided(pixels, radius, style.edge), radius, style.edge)
    flat = saturate(flatten_tones(smooth, style.steps), style.saturation)
    skin = skin_colour(smooth, mask, style.saturation)
    shaded = shade_skin(smooth, skin, mask)
    share = (style.flatness * mask)[..., None]
    ground = flat * (1 - share) + shaded * share
    ground *= 1 - 0.85 * lines(smooth, style, side)[..., None]
    canvas = Image.fromarray(to_bytes(ground)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    hair = hair_colour(smooth, landmarks, side)
    return draw_features(canvas, Features(landmarks * (SIZE / side), skin, hair))


def stretched(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Spread tones over the whole range: dlib reads underexposed faces badly."""
    low, high = np.quantile(pixels, (0.01, 0.99))
    return to_bytes((pixels.astype(np.float32) - low) / max(float(high - low), 16.0))


def to_bytes(pixels: Floats) -> npt.NDArray[np.uint8]:
    """[0, 1] -> uint8."""
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8)


def lift_tones(pixels: Floats, mask: Floats, style: Style) -> Floats:
    """Light the face [S, S, 3]: a power curve brings its median luminance towards the tone."""
    luma = pixels @ _LUMA
    high = np.quantile(luma[mask > 0.5], 0.98)
    white = max(float(high), 0.35)
    scaled = (pixels / white).clip(0, 1.15)
    median = float(np.clip(np.median(luma[mask > 0.5]) / white, 0.1, 0.95))
    wanted = style.toning * style.tone + (1 - style.toning) * median
    lifted: Floats = scaled ** np.float32(np.log(wanted) / np.log(median))
    # What is much lighter than the face would burn out.
    bright = (lifted @ _LUMA)[..., None]
    return lifted * np.where(bright > 0.75, (0.75 + 0.5 * (bright - 0.75)) / bright.clip(0.1), 1)


def guided(pixels: Floats, radius: int, edge: float) -> Floats:
    """The guided filter on [S, S, 3], guided by luminance."""
    size = 2 * radius + 1
    guide = pixels @ _LUMA

    def mean(values: Floats) -> Floats:
        window = (size, size, 1)[: values.ndim]
        return np.asarray(ndimage.uniform_filter(values, window, mode="nearest"), np.float32)

    mean_guide, mean_pixels = mean(guide), mean(pixels)
    variance = mean(guide * guide) - mean_guide**2
    covariance = mean(guide[..., None] * pixels) - mean_guide[..., None] * mean_pixels
    slope = covariance / (variance + edge * edge)[..., None]
    offset = mean_pixels - slope * mean_guide[..., None]
    return mean(slope) * guide[..., None] + mean(offset)


def flatten_tones(pixels: Floats, steps: int) -> Floats:
    """Pull the luminance of [S, S, 3] to the nearest of ``steps`` levels, softly in between."""
    luma: Floats = (pixels @ _LUMA)[..., None]
    position = luma * steps
    level = np.floor(position)
    # Steep in the middle between two levels, flat on each.
    flat: Floats = (level + 0.5 + 0.5 * np.tanh(6 * (position - level - 0.5))) / steps
    flat = 0.25 * luma + 0.75 * flat
    flattened: Floats = pixels * (flat / luma.clip(0.02))
    return flattened


def saturate(pixels: Floats, factor: float) -> Floats:
    """Move colours [..., 3] away from grey."""
    grey: Floats = (pixels @ _LUMA)[..., None]
    moved: Floats = grey + factor * (pixels - grey)
    return moved


def skin_colour(pixels: Floats, mask: Floats, saturation: float) -> Floats:
    """The face's middle colour [3], a little warmer than photographed."""
    colour = np.median(pixels[mask > 0.9], axis=0)
    warm = 0.75 * colour + 0.25 * (colour @ _LUMA) * np.array([1.28, 0.94, 0.74], np.float32)
    return saturate(warm.astype(np.float32), 0.5 + 0.5 * saturation)


def hair_colour(pixels: Floats, landmarks: npt.NDArray[np.float64], side: int) -> Floats:
    """The dark colour [3] that brows are drawn in, from the brows' own pixels."""
    x, y = np.clip(landmarks[17:27].round().astype(int), 0, side - 1).T
    return np.asarray(np.clip(0.55 * np.median(pixels[y, x], axis=0), 0.02, 0.4), np.float32)


def shade_skin(pixels: Floats, skin: Floats, mask: Floats) -> Floats:
    """Skin [S, S, 3] in three tones, by how light the photograph is there."""
    luma = ndimage.gaussian_filter(pixels @ _LUMA, 0.012 * len(pixels))
    relative = luma / max(float(np.median(luma[mask > 0.9])), 0.05)
    dark = 1 / (1 + np.exp(-40 * (relative - 0.72)))
    light = 1 / (1 + np.exp(-40 * (relative - 1.18)))
    tone = 0.72 + 0.28 * dark + 0.14 * light
    return np.asarray(tone[..., None] * skin, np.float32)


def lines(pixels: Floats, style: Style, side: int) -> Floats:
    """Where [S, S] lines of the photograph lie: 1 on a dark line, 0 beside it."""
    luma = pixels @ _LUMA
    fine = ndimage.gaussian_filter(luma, style.line * side, mode="nearest")
    wide = ndimage.gaussian_filter(luma, 1.6 * style.line * side, mode="nearest")
    found = np.tanh(style.line_slope * (wide - fine - 0.008).clip(0))
    return np.asarray(found, np.float32)
