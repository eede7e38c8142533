"""Faces whose scores are known to a margin, and which of them have to be known exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from restyle.core.faces.hog.filters import frontal_filters
from restyle.core.faces.hog.levels import PhotographLevels
from restyle.core.faces.hog.pyramid import Box, best_of, box_of, box_on_first_level, is_same
from restyle.kernels.hog import HIT

UNCERTAIN = 0.12
"""Scores above it are those of faces, and of two boxes the one that is better by it is the better
one: four standard deviations of a score's error, or three of a difference's."""


class UncertainFaces:
    """Hits on the levels of a photograph so far.

    Args:
        levels: of the photograph.
    """

    def __init__(self, levels: PhotographLevels) -> None:
        self._levels = levels
        self._hits = np.empty(0, HIT)
        self._is_exact = np.empty(0, bool)

    def add(self, hits: npt.NDArray[np.void]) -> None:
        """Add hits whose scores are uncertain; those that are known already stay as they are."""
        names = ["level", "x", "y", "filter"]
        known = {hit[names].item() for hit in self._hits}
        new = [hit[names].item() not in known for hit in hits]
        self._hits = np.concatenate([self._hits, hits[new]])
        self._is_exact = np.concatenate([self._is_exact, np.zeros(sum(new), bool)])

    def settled(self) -> list[tuple[Box, float, int]]:
        """Box, score and level of faces, of which the largest are the recipe's."""
        while True:
            faces = self._faces()
            boxes = {index: box_of(self._hits[index]) for index in faces}
            largest = max((_area(boxes[index]) for index in faces), default=0)
            for index in faces:
                rivals = self._rivals(index)
                areas = [_area(box_of(self._hits[each])) for each in rivals]
                if areas and max(areas) >= largest:
                    self._settle(rivals)
                    break
            else:
                return [
                    (box_of(hit), float(hit["score"]), int(hit["level"]))
                    for hit in self._hits[faces]
                    if hit["score"] >= 0
                ]

    def _faces(self) -> list[int]:
        """Hits that are faces, or may be, and that no better one overlaps."""
        best = best_of(self._hits, frontal_filters()[1])
        scores = self._hits["score"]
        return [index for index in best if scores[index] >= 0 or not self._is_exact[index]]

    def _rivals(self, face: int) -> list[int]:
        """Hits whose exact scores may change whether a hit is a face, or which box the face has."""
        _, overlap = frontal_filters()
        scores = self._hits["score"]
        box = box_on_first_level(self._hits[face])
        near = [
            int(index)
            for index in np.flatnonzero(scores > scores[face] - UNCERTAIN)
            if index == face or is_same(box, box_on_first_level(self._hits[index]), overlap)
        ]
        if len(near) == 1 and scores[face] > UNCERTAIN:
            return []
        return [] if self._is_exact[near].all() else near

    def _settle(self, indices: list[int]) -> None:
        self._hits[indices] = self._levels.exactly(self._hits[indices])
        self._is_exact[indices] = True


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
