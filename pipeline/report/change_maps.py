"""Maps of each pixel's difference between pictures of a face, with a common scale."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 128
"""Maximum side of a map in pixels."""

TOTAL = -1
"""Key of the change from the first step to the last, in place of a step."""

Change = npt.NDArray[np.float32]

# Dark violet over red to pale yellow, with rising lightness, so that the scale works in grey and
# for colour-blind readers, on light and dark backgrounds.
_RAMP = ((12, 10, 38), (74, 20, 96), (150, 38, 92), (216, 76, 56), (248, 148, 44), (250, 236, 158))


def colour_ramp() -> list[str]:
    """CSS colours of the scale, from no change to the largest."""
    return [f"rgb({red} {green} {blue})" for red, green, blue in _RAMP]


def pixels(image: Image.Image) -> Change:
    """Reduce an RGB image to [h, w, 3] with values in [0, 2], the length of [-1, 1]."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 127.5


def changes(pictures: Mapping[int, Change]) -> dict[int, Change]:
    """Maps [h, w] of the mean absolute change by step; :data:`TOTAL` is from first to last step.

    Args:
        pictures: [h, w, 3] by step; 0 is the input, which is not compared.
    """
    steps = sorted(step for step in pictures if step > 0)
    pairs = {step: (step - 1, step) for step in steps if step - 1 in steps}
    if len(steps) > 1:
        pairs[TOTAL] = (steps[0], steps[-1])
    return {
        name: np.abs(pictures[after] - pictures[before]).mean(axis=2)
        for name, (before, after) in pairs.items()
    }


def differences(pictures: Mapping[int, Change]) -> dict[int, Change]:
    """Maps [h, w] of each step's mean absolute difference from the input.

    Args:
        pictures: [h, w, 3] by step; 0 is the input. Without it, or where a picture has another
            shape, there is nothing to compare.
    """
    if 0 not in pictures:
        return {}
    target = pictures[0]
    return {
        step: np.abs(picture - target).mean(axis=2)
        for step, picture in pictures.items()
        if step > 0 and picture.shape == target.shape
    }


def scale_of(maps: Iterable[Change], share: float = 0.995) -> float:
    """A round value above nearly all pixels of all maps; 0 without maps.

    Args:
        maps: [h, w] each.
        share: of a map's pixels that lie below it, in nearly all maps.
    """
    tops = [float(np.quantile(change, share)) for change in maps]
    if not tops:
        return 0.0
    top = max(float(np.quantile(tops, 0.95)), 1e-3)
    unit = 10.0 ** math.floor(math.log10(top))
    return next(unit * factor for factor in (1, 1.5, 2, 3, 4, 5, 7.5, 10) if unit * factor >= top)


def heatmap(change: Change, scale: float) -> bytes:
    """A map as PNG.

    Args:
        change: [h, w].
        scale: the change with the brightest colour.
    """
    levels = np.clip(np.rint(change / scale * 255), 0, 255).astype(np.uint8)
    image = Image.fromarray(levels).convert("P")
    positions = np.linspace(0, len(_RAMP) - 1, 256)
    colours = [
        np.interp(positions, range(len(_RAMP)), channel) for channel in zip(*_RAMP, strict=True)
    ]
    image.putpalette(np.rint(np.stack(colours, axis=1)).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
