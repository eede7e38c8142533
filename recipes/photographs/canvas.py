"""A photograph while it is composed: faces are laid on a background, exposed, covered, encoded."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from recipes.photographs.sources import Box, SourceFace
from recipes.photographs.truth import Face

_ORIENTATION = 0x0112

# How a camera that was held so stores an upright photograph (EXIF 2.32, tag 0x0112).
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
ORIENTATIONS = tuple(_STORED)

# Reach of a bust around its face, in sides of the face: left, up, right, down.
_BUST = (1.7, 1.5, 1.7, 2.2)

# Share of a patch's shorter side over which its edges fade.
_FADE = 0.1


class Canvas:
    """An upright photograph and the truth of its faces.

    Args:
        image: the background, RGB.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.faces: list[Face] = []

    def add(
        self,
        picture: Image.Image,
        source: SourceFace,
        face: tuple[tuple[float, float], float, float],
        *,
        bust: bool,
    ) -> None:
        """Lay a face and what surrounds it in its picture on the canvas.

        Args:
            picture: the picture of ``source``.
            source: the face to lay.
            face: centre and side in pixels of the canvas, roll in degrees counterclockwise.
            bust: take head and shoulders only, instead of everything the picture has.
        """
        centre, side, roll = face
        scale = side / source.side
        region = self._region(source, centre, scale, bust)
        patch = picture.crop(region)
        size = (max(round(patch.width * scale), 1), max(round(patch.height * scale), 1))
        patch = patch.resize(size, Image.Resampling.LANCZOS)
        patch.putalpha(_fading(size))
        turned = patch.rotate(roll, Image.Resampling.BICUBIC, expand=True)
        middle = ((region[0] + region[2]) / 2, (region[1] + region[3]) / 2)
        offset = [scale * (a - b) for a, b in zip(middle, source.centre, strict=True)]
        x, y = (a + b for a, b in zip(centre, turn(offset, roll), strict=True))
        left, top = round(x - turned.width / 2), round(y - turned.height / 2)
        self.image.paste(turned, (left, top), turned)
        self.faces.append(Face(centre, side, roll, source.yaw, False, source.picture))

    def _region(
        self, source: SourceFace, centre: tuple[float, float], scale: float, bust: bool
    ) -> tuple[int, int, int, int]:
        """The part of a picture that is laid: at most what the canvas can show of it."""
        (x, y), (width, height) = source.centre, self.image.size
        reach = math.hypot(max(centre[0], width - centre[0]), max(centre[1], height - centre[1]))
        reaches = [reach / scale] * 4
        if bust:
            reaches = [share * source.side for share in _BUST]
        left, top, right, bottom = source.panel
        return (
            math.floor(max(x - reaches[0], left)),
            math.floor(max(y - reaches[1], top)),
            math.ceil(min(x + reaches[2], right)),
            math.ceil(min(y + reaches[3], bottom)),
        )

    def hide(self, index: int, share: Box, colour: tuple[int, int, int]) -> None:
        """Cover a part of a face.

        Args:
            index: of the face.
            share: left, top, right, bottom in the face's square, from -0.5 to 0.5, not rotated.
            colour: of the cover.
        """
        face = self.faces[index]
        left, top, right, bottom = (value * face.side for value in share)
        size = (round(right - left), round(bottom - top))
        cover = Image.new("RGB", size, colour)
        cover.putalpha(255)
        turned = cover.rotate(face.roll, Image.Resampling.BICUBIC, expand=True)
        dx, dy = turn(((left + right) / 2, (top + bottom) / 2), face.roll)
        x, y = face.centre[0] + dx - turned.width / 2, face.centre[1] + dy - turned.height / 2
        self.image.paste(turned, (round(x), round(y)), turned)
        self.faces[index] = Face(face.centre, face.side, face.roll, face.yaw, True, face.source)

    def expose(
        self, stops: float, tint: tuple[float, float, float], grain: float, rng: np.random.Generator
    ) -> None:
        """Expose, shift the white and add noise.

        Args:
            stops: of exposure, on linear light.
            tint: factors of red, green and blue, on linear light.
            grain: standard deviation of the noise in grey levels.
            rng: source of the noise.
        """
        levels = np.arange(256) / 255
        tables = [
            (255 * (levels**2.2 * 2**stops * factor) ** (1 / 2.2)).clip(0, 255).round()
            for factor in tint
        ]
        pixels = np.asarray(self.image.point(np.concatenate(tables).astype(int).tolist()), np.int16)
        height, width, _ = pixels.shape
        noise = rng.standard_normal((height, width), np.float32) * grain
        noisy = pixels + noise.round().astype(np.int16)[:, :, None]
        self.image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))

    def encode(self, kind: str, orientation: int, **options: object) -> bytes:
        """The file: pixels stored as a camera held so stores them, upright by EXIF alone."""
        stored = _STORED[orientation]
        image = self.image if stored is None else self.image.transpose(stored)
        if orientation != 1:
            exif = Image.Exif()
            exif[_ORIENTATION] = orientation
            options["exif"] = exif
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()


def turn(offset: tuple[float, float] | list[float], roll: float) -> tuple[float, float]:
    """An offset in pixels, y downwards, turned by degrees counterclockwise on the screen."""
    angle = math.radians(roll)
    x, y = offset
    return (
        x * math.cos(angle) + y * math.sin(angle),
        y * math.cos(angle) - x * math.sin(angle),
    )


def _fading(size: tuple[int, int]) -> Image.Image:
    """A mask, mode L, that fades towards all four edges."""
    width, height = size
    length = max(_FADE * min(size), 1)
    across, down = (
        np.clip(np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) / length, 0, 1).astype(
            np.float32
        )
        for n in (width, height)
    )
    return Image.fromarray((255 * down[:, None] * across[None]).astype(np.uint8))
