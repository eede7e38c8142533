"""Reduced pictures of photographs, decoded in a confined child process."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from PIL import Image

from restyle.core.errors import RejectError
from restyle.pipeline.decoding.sandbox import CropSettings, IsolatedCropper

TIME_LIMIT = 20
"""Seconds for one photograph."""


@dataclass(frozen=True, eq=False)
class Reduced:
    """A photograph at reduced size.

    Attributes:
        image: upright, RGB.
        size: width and height of the upright photograph in pixels.
    """

    image: Image.Image
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Side of a pixel of the photograph in pixels of the picture."""
        return self.image.width / self.size[0]


class ReducedReader:
    """Decodes photographs at reduced size. Thread-safe.

    Args:
        side: maximum width and height of the pictures in pixels.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        settings = CropSettings(
            align=False, faces="largest", size=(side, side), time_limit=TIME_LIMIT
        )
        self._cropper = IsolatedCropper(settings)
        self._guard = threading.Lock()

    def __call__(self, data: bytes) -> Reduced:
        """Decode a photograph.

        Raises:
            RejectError: it cannot be decoded.
            FatalError: no photograph can be decoded on this machine.
        """
        with self._guard:
            (outcome,) = self._cropper([data])
        if isinstance(outcome, RejectError):
            raise outcome
        # The crop is the whole photograph in a square.
        corner = outcome[0].quad[2] + 0.5
        width, height = (max(1, round(float(length))) for length in corner)
        factor = min(1.0, self._side / max(width, height))
        shape = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = Image.fromarray(outcome[0].pixels).resize(shape, Image.Resampling.LANCZOS)
        return Reduced(image, (width, height))

    def close(self) -> None:
        """Stop the child."""
        with self._guard:
            self._cropper.close()
