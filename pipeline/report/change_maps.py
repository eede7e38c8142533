"""Maps of how much each pixel changed from one step to the next, on one scale for several."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 128
"""Most pixels at a side of a map."""

TOTAL = -1
"""In place of a step: the change from the first step to the last."""

Change = npt.NDArray[np.float32]

# Dark violet over red to pale yellow: rises in lightness, so that it reads in grey and for
# colour-blind eyes, on light and on dark ground.
_RAMP = ((12, 10, 38), (74, 20, 96), (150, 38, 92), (216, 76, 56), (248, 148, 44), (250, 236, 158))


def colour_ramp() -> list[str]:
    """CSS colours of the scale, from no change to the most."""
    return [f"rgb({red} {green} {blue})" for red, green, blue in _RAMP]


def pixels(image: Image.Image) -> Change:
    """Pixels [h, w, 3] of an RGB image made small, on a scale whose length is that of [-1, 1]."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 127.5


def changes(pictures: Mapping[int, Change]) -> dict[int, Change]:
    """Maps [h, w] of mean absolute change by step; :data:`TOTAL` is first step against last.

    Args:
        pictures: [h, w, 3] by step, 0 being the input, which is no step.
    """
    steps = sorted(step for step in pictures if step > 0)
    pairs = {step: (step - 1, step) for step in steps if step - 1 in steps}
    if len(steps) > 1:
        pairs[TOTAL] = (steps[0], steps[-1])
    return {
        name: np.abs(pictures[after] - pictures[before]).mean(axis=2)
        for name, (before, after) in pairs.items()
    }


def scale_of(maps: Iterable[Change]) -> float:
    """A round value that nearly every pixel of every map lies below; 0 without maps."""
    tops = [float(np.quantile(change, 0.995)) for change in maps]
    if not tops:
        return 0.0
    top = max(float(np.quantile(tops, 0.95)), 1e-3)
    unit = 10.0 ** math.floor(math.log10(top))
    return next(unit * factor for factor in (1, 1.5, 2, 3, 4, 5, 7.5, 10) if unit * factor >= top)


def heatmap(change: Change, scale: float) -> bytes:
    """A map as PNG.

    Args:
        change: [h, w].
        scale: the change that has the brightest colour.
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
