"""Summary of edits: identity, change of attributes, and monotonicity in the strength.

Sums are part of each unit's ledger entry, so that means need no reading of datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from restyle.pipeline.editing.rows import change_column
from restyle.pipeline.editing.settings import EditedDirection, EditSettings
from restyle.pipeline.ledger.entries import MetricSums, UnitRecord

FloatArray = npt.NDArray[np.float64]

_IDENTITY = "id_similarity"
_RISING = "rising"
_WITHOUT_PHOTO = "without_photo"


@dataclass(frozen=True, eq=False)
class Steadiness:
    """Monotonicity of an attribute in the strength of its direction.

    Attributes:
        attribute: name of the attribute.
        faces: number of faces that were detected at every strength.
        rising: share of them whose score rises with every step of the strength.
    """

    attribute: str
    faces: int
    rising: float


@dataclass(frozen=True, eq=False)
class EditSummary:
    """Means over all faces.

    Attributes:
        faces: number of faces.
        combinations: strengths of each edit.
        identity: [E], NaN if not measured.
        changes: [E] by attribute, over faces detected before and after.
        steadiness: monotonicity if a single direction was varied and faces were detected, or None.
        without_photo: number of faces that could not be pasted back.
    """

    faces: int
    combinations: list[tuple[float, ...]]
    identity: FloatArray
    changes: dict[str, FloatArray]
    steadiness: Steadiness | None
    without_photo: int


def edit_sums(rows: pa.Table, settings: EditSettings) -> dict[str, MetricSums]:
    """Sums over the faces at each edit, for a unit's ledger entry.

    Args:
        rows: of ``edits``, all edits of each face one after another.
        settings: of the edits.
    """
    shape = (-1, len(settings.combinations))
    names = [_IDENTITY, *map(change_column, settings.attributes)]
    sums = {name: _sums(_values(rows, name).reshape(shape)) for name in names}
    varied = _varied(settings)
    if varied is not None:
        order = np.argsort(varied.strengths, kind="stable")
        scores = _values(rows, varied.name).reshape(shape)[:, order]
        found = np.isfinite(scores).all(axis=1)
        rising = (np.diff(scores[found], axis=1) > 0).all(axis=1)
        sums[_RISING] = MetricSums(total=(float(rising.sum()),), count=(int(found.sum()),))
    if settings.paste_back != "none":
        problems = rows["photo_problem"].take(np.arange(0, rows.num_rows, shape[1]))
        missing, faces = len(problems) - problems.null_count, len(problems)
        sums[_WITHOUT_PHOTO] = MetricSums(total=(float(missing),), count=(faces,))
    return sums


def summarise(records: Sequence[UnitRecord], settings: EditSettings) -> EditSummary:
    """Compute the summary from the entries of committed units."""
    edits = len(settings.combinations)
    names = [_IDENTITY, *map(change_column, settings.attributes)]
    totals = {name: _added(_columns(records, name, "total"), edits) for name in names}
    counts = {name: _added(_columns(records, name, "count"), edits) for name in names}
    means = {
        name: np.where(counts[name] > 0, total / np.maximum(counts[name], 1), np.nan)
        for name, total in totals.items()
    }
    varied = _varied(settings)
    found = sum(int(count) for (count,) in _columns(records, _RISING, "count"))
    rising = sum(total for (total,) in _columns(records, _RISING, "total"))
    return EditSummary(
        faces=sum(record.faces for record in records),
        combinations=settings.combinations,
        identity=means[_IDENTITY],
        changes={name: means[change_column(name)] for name in settings.attributes},
        steadiness=Steadiness(varied.name, found, rising / found) if varied and found else None,
        without_photo=int(sum(total for (total,) in _columns(records, _WITHOUT_PHOTO, "total"))),
    )


def _varied(settings: EditSettings) -> EditedDirection | None:
    """The only direction with several strengths, if its attribute is scored."""
    varied = [each for each in settings.directions if len(each.strengths) > 1]
    return varied[0] if len(varied) == 1 and varied[0].name in settings.attributes else None


def _columns(records: Sequence[UnitRecord], name: str, what: str) -> list[tuple[float, ...]]:
    return [getattr(record.metrics[name], what) for record in records if name in record.metrics]


def _added(columns: list[tuple[float, ...]], edits: int) -> FloatArray:
    added: FloatArray = np.array(columns, np.float64).reshape(-1, edits).sum(axis=0)
    return added


def _values(rows: pa.Table, name: str) -> npt.NDArray[np.float32]:
    """A column as numbers, NaN for null."""
    values: npt.NDArray[np.float32] = rows[name].to_numpy()
    return values


def _sums(values: npt.NDArray[np.float32]) -> MetricSums:
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(axis=0, dtype=np.float64)
    return MetricSums(total=tuple(total.tolist()), count=tuple(finite.sum(axis=0).tolist()))
