"""Colour management: conversion of pixels to sRGB by their ICC profile, and back.

All models were trained on sRGB. Display P3 or Adobe RGB interpreted as sRGB looks pale; CMYK gets
wrong hues.
Source: ICC.1:2010; PNG third edition, 11.3.2 (gAMA).
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from restyle.core.errors import reason_of

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode by the colour space of a profile."""

_CLASSES = frozenset({"scnr", "mntr", "prtr", "spac"})
"""Classes of profiles that describe pixels, unlike device links and named colours."""

# As in browsers and photo editors: colours within both gamuts are kept, and black stays black.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION

# Little CMS's optimised tables are too coarse for dark greys.
_FLAGS_OF_GREY = _FLAGS | ImageCms.Flags.NOOPTIMIZE

_SAME = 2
"""Profiles that change colours by at most this many grey levels count as sRGB, whose many versions
round differently; their pixels are not converted."""

_LATTICE = 17

_SRGB_GAMMA = 1 / 2.2
_GAMMA_TOLERANCE = 0.05
"""As in libpng: encodings closer than this to a screen's are not corrected."""

UNREADABLE = "its colour profile cannot be used ({}); its pixels are taken as sRGB"


@dataclass(frozen=True, eq=False)
class Profile:
    """A file's ICC profile.

    Attributes:
        mode: Pillow's mode of the pixels it applies to; empty if it cannot be used.
        to_srgb: transform to mode ``RGB``; None if pixels need no conversion.
        problem: why it cannot be used; empty if it can.
    """

    mode: str = ""
    to_srgb: ImageCms.ImageCmsTransform | None = None
    problem: str = ""


@functools.lru_cache(maxsize=8)
def read_profile(data: bytes) -> Profile:
    """Read an ICC profile; faults are reported in :attr:`Profile.problem`, not raised."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space, kind = profile.profile.xcolor_space.strip(), profile.profile.device_class
        if space not in _MODES or kind not in _CLASSES:
            return Profile(problem=f"it describes {space} as {kind}")
        mode = _MODES[space]
        flags = _FLAGS_OF_GREY if mode == "L" else _FLAGS
        transform = ImageCms.buildTransform(
            profile, _srgb(), mode, "RGB", renderingIntent=_INTENT, flags=flags
        )
        return Profile(mode, None if _is_identity(transform, mode) else transform)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError) as error:
        return Profile(problem=reason_of(error))


@functools.lru_cache(maxsize=8)
def from_srgb(data: bytes) -> ImageCms.ImageCmsTransform | None:
    """The transform from sRGB to a profile's RGB space; None if the profile is one-way.

    Profiles of scanners and cameras may only convert from their own space.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        return ImageCms.buildTransform(
            _srgb(), profile, "RGB", "RGB", renderingIntent=_INTENT, flags=_FLAGS
        )
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None


def to_srgb(image: Image.Image, profile: bytes | None, gamma: float | None) -> Image.Image:
    """Convert an opaque 8-bit image to sRGB.

    Args:
        image: of any mode without transparency.
        profile: ICC profile of its file.
        gamma: of a PNG file without another description of its encoding.

    Returns:
        An image of mode ``RGB``; a new one if pixels had to be converted.
        :func:`problem` reports whether the profile could be used.
    """
    if profile:
        parsed = read_profile(profile)
        if _describes(parsed, image):
            if parsed.to_srgb is None:
                return image.convert("RGB")
            converted = ImageCms.applyTransform(image.convert(parsed.mode), parsed.to_srgb)
            assert converted is not None  # noqa: S101 (only in place would it be None)
            return converted
    elif gamma and abs(gamma / _SRGB_GAMMA - 1) > _GAMMA_TOLERANCE:
        return image.convert("RGB").point(_gamma_table(gamma) * 3)
    return image.convert("RGB")


def problem(image: Image.Image, profile: bytes | None) -> str:
    """A note why an image's profile cannot be used; empty if it can."""
    if not profile:
        return ""
    parsed = read_profile(profile)
    if parsed.problem:
        return UNREADABLE.format(parsed.problem)
    if not _describes(parsed, image):
        return UNREADABLE.format(f"it describes {parsed.mode} pixels, the image has {image.mode}")
    return ""


def _describes(profile: Profile, image: Image.Image) -> bool:
    if profile.problem:
        return False
    if profile.mode == "RGB":
        # An RGB profile also applies to grey pixels.
        return image.mode not in ("CMYK", "LAB")
    return image.mode == profile.mode or (profile.mode == "L" and image.mode == "1")


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == "CMYK":
        return False
    if mode == "L":
        colours = np.arange(256, dtype=np.uint8)[None]
        expected = np.repeat(colours[..., None], 3, axis=2)
    else:
        axis = np.linspace(0, 255, _LATTICE).round().astype(np.uint8)
        colours = expected = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(1, -1, 3)
    made = ImageCms.applyTransform(Image.fromarray(colours), transform)
    return bool(np.abs(np.asarray(made).astype(int) - expected).max() <= _SAME)


def _gamma_table(gamma: float) -> list[int]:
    """Table from the samples 0 to 255 of a file with this gAMA to sRGB."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return [round(255 * float(value)) for value in encoded]
