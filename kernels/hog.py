"""The scan of a photograph with dlib's frontal detector (see csrc/hog.cc). Imports no torch."""

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
        first: number of the level that is made of the photograph.
        last: number of the last level.
        scored: number of the first level that counts.
        size: width and height of the first level.
        part: of the first level; begins at multiples of 8 pixels.
        origin: photograph's pixel, in both axes, at the level's first pixel; None for the rounding
            of dlib's own first level.
        scale: photograph's pixels per pixel of the level, across and down.
    """

    first: int
    last: int
    scored: int
    size: tuple[int, int]
    part: Part
    origin: float | None = None
    scale: tuple[float, float] = (0.0, 0.0)


class _Scan(ctypes.Structure):
    _fields_ = [
        ("pixels", _pointer),
        *((name, _i64) for name in ("stride", "rows", "columns", "first_row", "first_column")),
        *((name, _i64) for name in ("held_rows", "held_columns")),
        *((name, ctypes.c_double) for name in ("x_origin", "x_scale", "y_origin", "y_scale")),
        *((name, _i32) for name in ("exact", "first", "last", "scored")),
        *((name, _i64) for name in ("level_rows", "level_columns")),
        *((name, _i64) for name in ("top", "left", "bottom", "right")),
        *((name, _pointer) for name in ("terms", "terms_of", "thresholds")),
        ("filters", _i32),
        ("margin", ctypes.c_float),
        ("hits", _pointer),
        *((name, _i64) for name in ("room", "found")),
    ]


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
        pixels: [h, w, 3] RGB with contiguous rows, a part of the photograph.
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
    library = _loaded()
    if isinstance(library, KernelError):
        raise library
    height, width, _ = pixels.shape
    columns, rows = size or (width, height)
    room = _ROOM
    while True:
        hits = np.empty(room, HIT)
        arguments = _Scan(
            pixels=pixels.ctypes.data,
            stride=pixels.strides[0],
            rows=rows,
            columns=columns,
            first_row=at[1],
            first_column=at[0],
            held_rows=height,
            held_columns=width,
            x_origin=levels.origin or 0.0,
            x_scale=levels.scale[0],
            y_origin=levels.origin or 0.0,
            y_scale=levels.scale[1],
            exact=levels.origin is None,
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
