"""The scan of a photograph with dlib's frontal detector (see csrc/hog.cc), and what reduces the
photograph for it (csrc/resample.cc). Imports no torch.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from restyle.kernels import build, toolchain
from restyle.kernels.choice import resolved
from restyle.kernels.errors import KernelError

TERM = np.dtype([("plane", "i4"), ("row", "f4", 10), ("column", "f4", 10)])
"""A separable term of a filter, ``HogTerm``: outer product of column and row on one plane."""

HIT = np.dtype([("level", "i4"), ("x", "i4"), ("y", "i4"), ("filter", "i4"), ("score", "f4")])
"""A hit, ``HogHit``: the window's first cell in its level, and the score above the threshold."""

_ROOM = 4096

_i64, _i32, _pointer = ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p


@dataclass(frozen=True, eq=False)
class Filters:
    """Filters of 10 x 10 cells and 31 planes.

    Attributes:
        terms: of all filters, one filter after the other, :data:`TERM`.
        terms_of: [filters + 1] int32, where the terms of each filter begin.
        thresholds: [filters] float64.
    """

    terms: npt.NDArray[np.void]
    terms_of: npt.NDArray[np.int32]
    thresholds: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A part of a level or photograph, in its pixels.

    Attributes:
        left: first column.
        top: first row.
        right: behind the last column.
        bottom: behind the last row.
    """

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Levels:
    """Levels to scan, finest first.

    Attributes:
        first: number of the first level.
        last: number of the last level.
        scored: number of the first level that counts.
        size: width and height of the first level.
        part: of the first level; begins at multiples of 8 pixels.
        is_given: whether the pixels are those of the first level; otherwise they are the
            photograph's, and the first level is resampled from them as by dlib.
    """

    first: int
    last: int
    scored: int
    size: tuple[int, int]
    part: Part
    is_given: bool = False


class _Scan(ctypes.Structure):
    _fields_ = [
        ("pixels", _pointer),
        *((name, _i64) for name in ("stride", "step", "rows", "columns")),
        *((name, _i64) for name in ("first_row", "first_column")),
        *((name, _i64) for name in ("held_rows", "held_columns")),
        *((name, _i32) for name in ("unchanged", "first", "last", "scored")),
        *((name, _i64) for name in ("level_rows", "level_columns")),
        *((name, _i64) for name in ("top", "left", "bottom", "right")),
        *((name, _pointer) for name in ("terms", "terms_of", "thresholds")),
        ("filters", _i32),
        ("margin", ctypes.c_float),
        ("hits", _pointer),
        *((name, _i64) for name in ("room", "found")),
    ]


class _Resampling(ctypes.Structure):
    _fields_ = [
        ("pixels", _pointer),
        *((name, _i64) for name in ("stride", "rows", "columns")),
        ("bias", ctypes.c_float),
        ("out", _pointer),
    ]


class _Sums(ctypes.Structure):
    _fields_ = [("count", _i64), ("taps", _i64), ("first", _pointer), ("weights", _pointer)]


class _LevelAxis(ctypes.Structure):
    _fields_ = [(name, _i64) for name in ("length", "reduction", "first", "number", "begin", "end")]


@functools.cache
def _loaded() -> ctypes.CDLL | KernelError:
    try:
        path = build.ensure_built(toolchain.find("hog"))
        return ctypes.CDLL(str(path))
    except KernelError as error:
        return error
    except OSError as error:
        return KernelError(f"the scan of photographs does not load: {error}")


def why_unavailable() -> str:
    """Why there is no compiled scan here; empty if there is one. Builds it on first use.

    Raises:
        KernelError: compiled operators are asked for by name, and the build fails.
    """
    wanted = resolved("auto")
    if wanted == "reference":
        return "plain operators are asked for"
    found = _loaded()
    if not isinstance(found, KernelError):
        return ""
    if wanted == "native":
        raise found
    return str(found)


def scan(
    pixels: npt.NDArray[np.uint8],
    filters: Filters,
    levels: Levels,
    *,
    margin: float = 0.0,
    size: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
) -> npt.NDArray[np.void]:
    """Find the windows that score above the thresholds.

    Memory grows with the width of the photograph alone.

    Args:
        pixels: [h, w, 3] RGB or [h, w, 4] with a fourth value that is not read; contiguous rows, a
            part of the photograph.
        filters: the detector.
        levels: what is scanned.
        margin: required score above the threshold, negative for more hits.
        size: width and height of the whole photograph; those of ``pixels`` when None.
        at: column and row of the photograph at which ``pixels`` begins.

    Returns:
        Hits, :data:`HIT`, in no order.

    Raises:
        KernelError: there is no compiled scan.
    """
    library = _library()
    height, width, _ = pixels.shape
    columns, rows = size or (width, height)
    room = _ROOM
    while True:
        hits = np.empty(room, HIT)
        arguments = _Scan(
            pixels=pixels.ctypes.data,
            stride=pixels.strides[0],
            step=pixels.shape[2],
            rows=rows,
            columns=columns,
            first_row=at[1],
            first_column=at[0],
            held_rows=height,
            held_columns=width,
            unchanged=levels.is_given,
            first=levels.first,
            last=levels.last,
            scored=levels.scored,
            level_rows=levels.size[1],
            level_columns=levels.size[0],
            top=levels.part.top,
            left=levels.part.left,
            bottom=levels.part.bottom,
            right=levels.part.right,
            terms=filters.terms.ctypes.data,
            terms_of=filters.terms_of.ctypes.data,
            thresholds=filters.thresholds.ctypes.data,
            filters=len(filters.thresholds),
            margin=margin,
            hits=hits.ctypes.data,
            room=room,
        )
        library.restyle_hog_scan(ctypes.byref(arguments))
        if arguments.found <= room:
            return hits[: arguments.found]
        room = arguments.found


Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums along one axis of a photograph.

    Attributes:
        first: [count] int32, index of the first pixel of each.
        weights: [count, taps] float32; zero where a sum has fewer pixels.
    """

    first: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    def _argument(self) -> _Sums:
        count, taps = self.weights.shape
        return _Sums(count, taps, self.first.ctypes.data, self.weights.ctypes.data)


def resampled(pixels: Pixels, rows: Sums, columns: Sums) -> Pixels:
    """Sum over rows and columns, rounded to the nearest value.

    Args:
        pixels: [h, w, 4] with contiguous rows.
        rows: sums down the photograph, which lie in it.
        columns: sums across.

    Returns:
        [rows, columns, 4].

    Raises:
        KernelError: there is no compiled code.
    """
    out = np.empty((len(rows.first), len(columns.first), 4), np.uint8)
    _library().restyle_resample(
        ctypes.byref(_resampling(pixels, 0.5, out)),
        ctypes.byref(rows._argument()),
        ctypes.byref(columns._argument()),
    )
    return out


def level_of(
    copy: Pixels,
    reduction: int,
    size: tuple[int, int],
    first: tuple[int, int],
    number: int,
    part: Part,
) -> Pixels:
    """Part of a level of dlib's pyramid, in one step from the photograph.

    dlib computes each level from the one before and rounds it down. Here only the result is
    rounded, so that values differ by one.

    Args:
        copy: [h, w, 4], the photograph or a :func:`halved` copy.
        reduction: pixels of the photograph for one of the copy, in each axis.
        size: width and height of the photograph.
        first: width and height of the first level.
        number: of the level.
        part: of the level.

    Returns:
        [h, w, 4].

    Raises:
        KernelError: there is no compiled code.
    """
    out = np.empty((part.bottom - part.top, part.right - part.left, 4), np.uint8)
    # What dlib loses by rounding each level down.
    bias = 0.5 - 0.5 * number
    _library().restyle_resample_level(
        ctypes.byref(_resampling(copy, bias, out)),
        ctypes.byref(_LevelAxis(size[1], reduction, first[1], number, part.top, part.bottom)),
        ctypes.byref(_LevelAxis(size[0], reduction, first[0], number, part.left, part.right)),
    )
    return out


def halved(pixels: Pixels) -> Pixels:
    """Means of two by two pixels: [h // 2, w // 2, 4] of [h, w, 4].

    Raises:
        KernelError: there is no compiled code.
    """
    height, width, _ = pixels.shape
    out = np.empty((height // 2, width // 2, 4), np.uint8)
    _library().restyle_halve(ctypes.byref(_resampling(pixels, 0.0, out)))
    return out


def _resampling(pixels: Pixels, bias: float, out: Pixels) -> _Resampling:
    height, width, _ = pixels.shape
    return _Resampling(pixels.ctypes.data, pixels.strides[0], height, width, bias, out.ctypes.data)


def _library() -> ctypes.CDLL:
    library = _loaded()
    if isinstance(library, KernelError):
        raise library
    return library
