"""Levels of a photograph's pyramid, each made from the photograph in one step.

dlib makes each level from the one before and rounds it down. Made in one step, pixels differ by
rounding alone, and scores by 0.03 (standard deviation), because of flat regions; in exchange no
level has to be computed for the sake of a coarser one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from restyle.core.faces.hog.filters import frontal_filters
from restyle.core.faces.hog.pyramid import (
    Box,
    around_windows,
    faces_of,
    first_level_of,
    level_sizes,
    part_of_level,
)
from restyle.core.imaging.shared_pixels import shared_pixels
from restyle.kernels.hog import HIT, Levels, Part, halved, level_of, scan

# Levels that are made of copies of half, a quarter and an eighth of the photograph's size: from
# these numbers on, the steps between levels blur more than what the copy has averaged.
_COPIES = ((8, 16), (4, 12), (2, 8))

# The same for levels that are only glimpsed at.
_COPIES_TO_GLIMPSE = ((8, 14), (4, 10), (2, 6))

# The finest level that is scanned like this is the first one smaller than the photograph.
_FINEST = 4

# The coarsest levels, up to this many pixels together, are all scanned, and of the finer ones each
# second. Faces of the levels between score above the margin there: 276 of 276 that dlib finds in
# photographs up to four megapixels, and the least of them -0.44.
_FEW_PIXELS = 120_000
_STEP = 2
_GLIMPSE = 0.7

# Every window scores above it.
_ANY = -1e6

# What tells a window from others, of the fields of a hit.
_WINDOW = ["level", "x", "y", "filter"]


class PhotographLevels:
    """Scans levels of a photograph.

    Args:
        image: an upright RGB photograph, which must not be changed meanwhile.

    Attributes:
        size: width and height of the photograph.
        pixels: [h, w, 4] of the photograph.
        sizes: width and height of each level.
        last: number of the coarsest level.
    """

    def __init__(self, image: Image.Image) -> None:
        self.size = image.size
        self.pixels = shared_pixels(image)
        self.sizes = level_sizes(image.size)
        self.last = len(self.sizes) - 1
        self._copies = {1: self.pixels}

    def _copy(self, reduction: int) -> npt.NDArray[np.uint8]:
        """The photograph at a half, a quarter or an eighth of its size, made when it is needed."""
        if reduction not in self._copies:
            self._copies[reduction] = halved(self._copy(reduction // 2))
        return self._copies[reduction]

    def groups(self) -> Iterator[range]:
        """Levels to scan, coarse to fine, as ranges."""
        pixels, end = 0, self.last + 1
        for number in range(self.last, _FINEST - 1, -1):
            width, height = self.sizes[number]
            pixels += width * height
            is_due = pixels >= _FEW_PIXELS or number == _FINEST
            if is_due and (number - _FINEST) % _STEP == 0:
                yield range(number, end)
                # The level below is one between.
                end = number - _STEP + 1

    def glimpsed(self, group: range) -> list[tuple[Box, float, int]]:
        """Box, score and level of what may be a face on a group of levels, or beside them."""
        hits = self.scanned(group, _GLIMPSE, copies=_COPIES_TO_GLIMPSE)
        return faces_of(hits, frontal_filters()[1])

    def scanned(
        self,
        levels: range,
        margin: float,
        box: Box | None = None,
        copies: tuple[tuple[int, int], ...] = _COPIES,
    ) -> npt.NDArray[np.void]:
        """Hits on levels, with scores that differ from the recipe's by 0.03.

        Args:
            levels: their numbers.
            margin: by which scores may be below the threshold.
            box: part of the photograph; all of it when None.
            copies: reductions of the photograph, and the finest level that is made of each.
        """
        number = levels.start
        size = self.sizes[number]
        part = Part(0, 0, *size) if box is None else part_of_level(box, size, self.size)
        if part.right <= part.left or part.bottom <= part.top:
            return np.empty(0, HIT)
        reduction = next((by for by, least in copies if number >= least), 1)
        pixels = level_of(self._copy(reduction), reduction, self.size, self.sizes[0], number, part)
        wanted = Levels(number, levels.stop - 1, number, size, part, is_given=True)
        at = (part.left, part.top)
        return scan(pixels, frontal_filters()[0], wanted, margin=-margin, size=size, at=at)

    def exactly(self, hits: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """The same hits with the scores of the recipe's levels, -inf where these lack a window."""
        scores = self._exact_scores(hits, around_windows(hits, self.sizes, self.size))
        keys = [hit[_WINDOW].item() for hit in hits]
        if not scores.keys() >= set(keys):
            # A part of the photograph may end before a window does; all of it does not.
            scores = self._exact_scores(hits, (0, 0, *self.size))
        settled = hits.copy()
        settled["score"] = [scores.get(key, -math.inf) for key in keys]
        return settled

    def _exact_scores(self, hits: npt.NDArray[np.void], box: Box) -> dict[tuple[int, ...], float]:
        """Scores by window of the levels of some hits, in a part of the photograph."""
        first, last = int(hits["level"].min()), int(hits["level"].max())
        left, top, right, bottom = box
        levels = Levels(0, last, first, self.sizes[0], first_level_of(box, self.size))
        pixels = self.pixels[top:bottom, left:right]
        around = scan(
            pixels, frontal_filters()[0], levels, margin=_ANY, size=self.size, at=(left, top)
        )
        return {hit[_WINDOW].item(): float(hit["score"]) for hit in around}
