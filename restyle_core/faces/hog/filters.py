"""The filters of dlib's frontal detector, as the installed dlib has them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from restyle.kernels.hog import TERM, Filters

_PLANES = 31
_SIDE = 10

# dlib drops terms of a filter below this share of its largest, or below this value.
_LEAST_SHARE = 0.01
_LEAST = 1e-3

# Integers before the first real number of a serialized detector, and between the next two.
_HEADER = 11


@dataclass(frozen=True)
class Overlap:
    """When two boxes are one face; the one with the lower score is dropped.

    Attributes:
        common: least share of their common area in the area of both.
        covered: least share of the common area in one of them.
    """

    common: float
    covered: float


@functools.cache
def frontal_detector() -> Any:
    """Dlib's frontal detector itself."""
    import dlib

    return dlib.get_frontal_face_detector()


@functools.cache
def frontal_filters() -> tuple[Filters, Overlap]:
    """The five filters (front, two sides, two rotations) and the rule for overlapping boxes."""
    # dlib shows the weights in no other way than its pickles, which hold its own serialization.
    reader = _Reader(frontal_detector().__getstate__()[0])
    for _ in range(_HEADER):
        reader.integer()
    reader.real()  # regularization
    reader.integer()  # dimensions
    overlap = Overlap(reader.real(), reader.real())
    weights = [reader.vector() for _ in range(reader.integer())]
    terms = [_terms(each[:-1].reshape(_PLANES, _SIDE, _SIDE)) for each in weights]
    filters = Filters(
        np.concatenate(terms),
        np.cumsum([0, *map(len, terms)], dtype=np.int32),
        np.array([each[-1] for each in weights]),
    )
    return filters, overlap


def _terms(planes: np.ndarray) -> np.ndarray:
    """Separable terms of a filter [planes, rows, columns], without those that dlib drops."""
    terms = []
    for number, plane in enumerate(planes):
        columns, sizes, rows = np.linalg.svd(plane)
        for index in np.flatnonzero(sizes >= max(_LEAST, _LEAST_SHARE * sizes[0])):
            root = math.sqrt(sizes[index])
            terms.append((number, rows[index] * root, columns[:, index] * root))
    return np.array(terms, TERM)


class _Reader:
    """Reads dlib's serialization: numbers of a header byte with sign and length, then the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def integer(self) -> int:
        header = self._data[self._at]
        begin = self._at + 1
        self._at = begin + (header & 0x0F)
        value = int.from_bytes(self._data[begin : self._at], "little")
        return -value if header & 0x80 else value

    def real(self) -> float:
        mantissa = self.integer()
        return math.ldexp(mantissa, self.integer())

    def vector(self) -> np.ndarray:
        # dlib negates the numbers of rows and columns.
        count = self.integer() * self.integer()
        return np.array([self.real() for _ in range(count)])
