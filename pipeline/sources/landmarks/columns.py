"""Landmarks in the columns of a table, whatever kind of file holds it.

Three layouts, told by the names of the columns: a column for each coordinate, a column of lists of
points, and a row for each point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from restyle.core.errors import SpecError
from restyle.core.faces.anchors import ALL, CORNERS, FIVE
from restyle.pipeline.sources.landmarks.marked_faces import NO_POINTS, MarkedFaces, marked

KEYS = ("path", "source", "file_path", "file_name", "filename", "name", "image_id")
"""Columns that say which photograph a row is of; the first of them that there is."""

LISTS = ("landmarks", "face_landmarks", "points", "quad", "face_quad")
"""Columns of lists of points, [[x, y], ...] or [x, y, x, y, ...]; the first that there is."""

_CELEBA = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_POINT, _FACE, _X, _Y = "point", "face", "x", "y"
_SHOWN = 12

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How a table holds landmarks; all names are as the table spells them.

    Attributes:
        key: the column of keys.
        wide: columns of the coordinates, x and y of each point in turn; empty for other layouts.
        nested: the column of lists of points; empty for other layouts.
        long: columns of the number of a point, its x and its y; empty for other layouts.
        face: the column that tells faces of a photograph apart, in the last layout; may be empty.
    """

    key: str
    wide: tuple[str, ...] = ()
    nested: str = ""
    long: tuple[str, ...] = ()
    face: str = ""

    @property
    def numeric(self) -> tuple[str, ...]:
        """Columns of numbers."""
        return (*self.wide, *self.long)

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        return list(filter(None, (self.key, *self.numeric, self.nested, self.face)))


def layout_of(columns: Sequence[str]) -> Layout:
    """Return the layout of a table by the names of its columns, in any case of letters.

    Raises:
        SpecError: the names are those of no layout.
    """
    names: dict[str, str] = {}
    for column in columns:
        if names.setdefault(column.strip().lower(), column) is not column:
            raise SpecError(f"there are two columns {column.strip()!r}")
    key = next((names[each] for each in KEYS if each in names), "")
    if not key:
        raise SpecError(
            f"no column says which photograph a row is of ({', '.join(KEYS)}); there are "
            f"{_listed(columns)}"
        )
    for points in (_CELEBA, *(tuple(map(str, range(n))) for n in (ALL, FIVE, CORNERS))):
        wide = tuple(_coordinate(point, axis) for point in points for axis in "xy")
        if all(each in names for each in wide):
            return Layout(key, wide=tuple(names[each] for each in wide))
    for each in LISTS:
        if each in names:
            return Layout(key, nested=names[each])
    if all(each in names for each in (_POINT, _X, _Y)):
        long = (names[_POINT], names[_X], names[_Y])
        return Layout(key, long=long, face=names.get(_FACE, ""))
    raise SpecError(
        "no columns of landmarks: x0, y0 to x67, y67 (or x4, y4; or x3, y3), "
        "lefteye_x, lefteye_y to rightmouth_y, a list of points in landmarks or quad, or "
        f"point, x and y; there are {_listed(columns)}"
    )


def _coordinate(point: str, axis: str) -> str:
    return f"{axis}{point}" if point.isdecimal() else f"{point}_{axis}"


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(islice(columns, _SHOWN))
    return shown[:300] + (", ..." if len(columns) > _SHOWN else "")


def table_faces(
    batches: Iterable[pa.RecordBatch], layout: Layout, *, first: int = 1, unit: str = "row"
) -> Iterator[MarkedFaces]:
    """Yield the faces of a table.

    Args:
        batches: the rows, with the columns of the layout.
        layout: of the table.
        first: number of the first row.
        unit: what the numbers count.

    Raises:
        SpecError: a column holds values of another kind, or a row has no key.
    """
    if layout.long:
        yield from _Long(layout, first, unit).faces(batches)
        return
    read: Callable[[pa.RecordBatch, Layout], tuple[FloatArray, IntArray]]
    read = _wide if layout.wide else _nested
    for batch in batches:
        coordinates, counts = read(batch, layout)
        numbers = np.arange(first, first + batch.num_rows)
        yield marked(_texts(batch, layout.key), coordinates, counts, numbers, unit=unit)
        first += batch.num_rows


def _texts(batch: pa.RecordBatch, name: str) -> list[str | None]:
    column = _plain(batch.column(name))
    if not (pt.is_string(column.type) or pt.is_large_string(column.type)):
        raise SpecError(f"the column {name} holds {column.type}, not texts")
    texts: list[str | None] = column.to_pylist()
    return texts


def _numbers(batch: pa.RecordBatch, name: str) -> FloatArray:
    return _floats(batch.column(name), name)


def _floats(column: pa.Array, name: str) -> FloatArray:
    if not (pt.is_floating(column.type) or pt.is_integer(column.type) or pt.is_null(column.type)):
        raise SpecError(f"the column {name} holds {column.type}, not numbers")
    # A missing number is not finite, and its face is rejected for that.
    values = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan)
    floats: FloatArray = values.to_numpy(zero_copy_only=False)
    return floats


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pt.is_dictionary(column.type) else column


def _wide(batch: pa.RecordBatch, layout: Layout) -> tuple[FloatArray, IntArray]:
    values = np.stack([_numbers(batch, name) for name in layout.wide], 1)
    count = len(layout.wide) // 2
    return values.reshape(-1, 2), np.full(batch.num_rows, count, np.int64)


def _nested(batch: pa.RecordBatch, layout: Layout) -> tuple[FloatArray, IntArray]:
    column = batch.column(layout.nested)
    if not _is_list(column.type):
        raise SpecError(f"the column {layout.nested} holds {column.type}, not lists of points")
    lengths = _lengths(column)
    inner = column.flatten()
    if not _is_list(inner.type):
        values = _floats(inner, layout.nested)
        return _pairs(values, lengths)
    points = _lengths(inner)
    values = _floats(inner.flatten(), layout.nested)
    # A face with a point of three numbers, or of one, has no points.
    odd = np.append(0, np.cumsum(points != 2))
    ends = np.cumsum(lengths)
    is_odd = odd[ends] != odd[ends - lengths]
    if not is_odd.any():
        return values.reshape(-1, 2), lengths
    kept = np.repeat(np.repeat(~is_odd, lengths), points)
    return values[kept].reshape(-1, 2), np.where(is_odd, NO_POINTS, lengths)


def _pairs(values: FloatArray, lengths: IntArray) -> tuple[FloatArray, IntArray]:
    """Return the points of faces whose numbers stand in a row, x and y in turn."""
    is_odd = lengths % 2 != 0
    kept = np.repeat(~is_odd, lengths)
    return values[kept].reshape(-1, 2), np.where(is_odd, NO_POINTS, lengths // 2)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


def _lengths(column: pa.Array) -> IntArray:
    lengths = pc.fill_null(pc.list_value_length(column).cast(pa.int64()), 0)
    array: IntArray = lengths.to_numpy(zero_copy_only=False)
    return array


@dataclass
class _Long:
    """Reader of tables with a row for each point; the rows of a face stand together."""

    layout: Layout
    first: int
    unit: str

    def faces(self, batches: Iterable[pa.RecordBatch]) -> Iterator[MarkedFaces]:
        rest: pa.RecordBatch | None = None
        for batch in batches:
            joined = batch if rest is None else pa.concat_batches([rest, batch])
            starts = self._starts(joined)
            # The last face may go on in the next batch.
            last = int(starts[-1]) if len(starts) else 0
            if last:
                yield self._marked(joined.slice(0, last), starts[:-1])
            rest = joined.slice(last)
            if rest.num_rows > ALL * ALL:
                raise SpecError(
                    f"{self.unit} {self.first} begins a face of more than {ALL * ALL} points"
                )
        if rest is not None and rest.num_rows:
            yield self._marked(rest, np.zeros(1, np.int64))

    def _starts(self, batch: pa.RecordBatch) -> IntArray:
        point = _numbers(batch, self.layout.long[0])
        is_new = np.append(True, ~(point[1:] > point[:-1]))
        for name in filter(None, (self.layout.key, self.layout.face)):
            column = _plain(batch.column(name))
            differs = pc.fill_null(pc.not_equal(column[1:], column[:-1]), True)
            is_new[1:] |= differs.to_numpy(zero_copy_only=False)
        return np.flatnonzero(is_new[: batch.num_rows])

    def _marked(self, batch: pa.RecordBatch, starts: IntArray) -> MarkedFaces:
        point, x, y = (_numbers(batch, name) for name in self.layout.long)
        counts = np.diff(np.append(starts, batch.num_rows))
        expected = np.arange(batch.num_rows) - np.repeat(starts, counts)
        wrong = np.add.reduceat(point != expected, starts) > 0
        keys = _texts(batch.take(pa.array(starts)), self.layout.key)
        numbers = self.first + starts
        self.first += batch.num_rows
        faces = marked(keys, np.stack([x, y], 1), counts, numbers, unit=self.unit)
        for index in np.flatnonzero(wrong):
            faces.faults[int(index)] = (
                f"its points are not numbered 0 to {counts[index] - 1} in order"
            )
        return faces
