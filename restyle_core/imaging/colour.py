"""Colour: pixels become sRGB by the profile that their file carries, and back.

Every model here was trained on sRGB. A photograph in Display P3 or Adobe RGB that is taken for
sRGB comes out pale, one in CMYK in other hues.
Source: ICC.1:2010; PNG third edition, 11.3.2 (gAMA).
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode by the colour space of a profile, of those that photographs come in."""

_CLASSES = frozenset({"scnr", "mntr", "prtr", "spac"})
"""Classes of profiles that describe the colours of pixels; links and named colours do not."""

# What browsers and editors of photographs do: colours that both spaces have stay what they are,
# and black stays black.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION

# For grey, little CMS samples the way too coarsely where it is dark, unless told not to.
_FLAGS_OF_GREY = _FLAGS | ImageCms.Flags.NOOPTIMIZE

_SAME = 2
"""Grey levels by which a profile may move a colour and still be sRGB: the many profiles of that
name round differently, and pixels that are sRGB are best left alone."""

_LATTICE = 17

_SRGB_GAMMA = 1 / 2.2
_GAMMA_TOLERANCE = 0.05
"""As libpng: encodings closer than this to a screen's are not corrected."""

UNREADABLE = "its colour profile cannot be used ({}); its pixels are taken as sRGB"


@dataclass(frozen=True, eq=False)
class Profile:
    """What the profile of a file does to its pixels.

    Attributes:
        mode: Pillow's mode of the pixels that it describes; empty when it describes none.
        to_srgb: into mode ``RGB``; None where pixels stay as they are.
        problem: why it cannot be used; empty when it can.
    """

    mode: str = ""
    to_srgb: ImageCms.ImageCmsTransform | None = None
    problem: str = ""


@functools.lru_cache(maxsize=8)
def read_profile(data: bytes) -> Profile:
    """Read an ICC profile; what is wrong with it is said, not raised."""
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
        return Profile(problem=" ".join(str(error).split()) or type(error).__name__)


@functools.lru_cache(maxsize=8)
def from_srgb(data: bytes) -> ImageCms.ImageCmsTransform | None:
    """The way from sRGB into the RGB space of a profile; None where it has none.

    Profiles of scanners and cameras may know only the way out of their space.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        return ImageCms.buildTransform(
            _srgb(), profile, "RGB", "RGB", renderingIntent=_INTENT, flags=_FLAGS
        )
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None


def to_srgb(image: Image.Image, profile: bytes | None, gamma: float | None) -> Image.Image:
    """Convert an opaque image of eight bits to sRGB.

    Args:
        image: of any mode without transparency.
        profile: ICC profile of its file.
        gamma: of a PNG file that names its encoding by nothing else.

    Returns:
        An image of mode ``RGB``; a new one unless nothing had to be done.
        :func:`problem` tells whether the profile was of use.
    """
    if profile:
        known = read_profile(profile)
        if _describes(known, image):
            if known.to_srgb is None:
                return image.convert("RGB")
            converted = ImageCms.applyTransform(image.convert(known.mode), known.to_srgb)
            assert converted is not None  # noqa: S101 (only in place would it be None)
            return converted
    elif gamma and abs(gamma / _SRGB_GAMMA - 1) > _GAMMA_TOLERANCE:
        return image.convert("RGB").point(_gamma_table(gamma) * 3)
    return image.convert("RGB")


def problem(image: Image.Image, profile: bytes | None) -> str:
    """Why the profile of an image is of no use to it, as a note; empty when all is well."""
    if not profile:
        return ""
    known = read_profile(profile)
    if known.problem:
        return UNREADABLE.format(known.problem)
    if not _describes(known, image):
        return UNREADABLE.format(f"it describes {known.mode} pixels, the image has {image.mode}")
    return ""


def _describes(profile: Profile, image: Image.Image) -> bool:
    if profile.problem:
        return False
    if profile.mode == "RGB":
        # A grey photograph with a screen's profile is grey on that screen.
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
    """SRGB values of the samples 0 to 255 that a file with this gAMA holds."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return [round(255 * float(value)) for value in encoded]
