"""What edits came to, read from their rows: identity kept, attributes changed, and how steadily."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.edit_rows import FOLDER, change_column
from pipeline.edit_settings import EditSettings
from pipeline.parquet_files import open_parquet
from pipeline.storage import Storage

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Steadiness:
    """Whether an attribute follows the strength of the direction of its name.

    Attributes:
        attribute: which.
        faces: those that were found at every strength.
        rising: share of them whose score rises with every step of the strength.
    """

    attribute: str
    faces: int
    rising: float


@dataclass(frozen=True, eq=False)
class EditSummary:
    """Means over all faces.

    Attributes:
        faces: how many.
        combinations: the strengths of each edit.
        identity: [E], NaN where it was not measured.
        changes: [E] by attribute, over the faces found before and after.
        steadiness: where one direction alone was varied.
        without_photo: faces that could not be put back.
    """

    faces: int
    combinations: list[tuple[float, ...]]
    identity: FloatArray
    changes: dict[str, FloatArray]
    steadiness: list[Steadiness]
    without_photo: int


def summarise(to: str, storage: Storage, settings: EditSettings) -> EditSummary:
    """Read the numbers of all edits.

    Raises:
        FatalError: a file is damaged.
    """
    edits = len(settings.combinations)
    changes = {name: change_column(name) for name in settings.attributes}
    names = ["id_similarity", *settings.attributes, *changes.values()]
    parts: dict[str, list[FloatArray]] = {name: [] for name in names}
    without_photo = 0
    for file in storage.sizes(FOLDER):
        with open_parquet(to, file) as parquet:
            pasted = settings.paste_back != "none"
            wanted = [*names, "photo_problem"] if pasted else names
            table = parquet.read(columns=wanted, use_threads=False)
        for name in names:
            values = table.column(name).to_numpy().astype(np.float64)
            parts[name].append(values.reshape(-1, edits))
        if pasted:
            problems = table.column("photo_problem")
            without_photo += (len(problems) - problems.null_count) // edits
    values = {
        name: np.concatenate(part) if part else np.empty((0, edits)) for name, part in parts.items()
    }
    return EditSummary(
        faces=len(values["id_similarity"]),
        combinations=settings.combinations,
        identity=_means(values["id_similarity"]),
        changes={name: _means(values[change]) for name, change in changes.items()},
        steadiness=_steadiness(settings, values),
        without_photo=without_photo,
    )


def _steadiness(settings: EditSettings, values: dict[str, FloatArray]) -> list[Steadiness]:
    varied = [each for each in settings.directions if len(each.strengths) > 1]
    if len(varied) != 1 or varied[0].name not in settings.attributes:
        return []
    order = np.argsort(varied[0].strengths, kind="stable")
    scores = values[varied[0].name][:, order]
    found = np.isfinite(scores).all(axis=1)
    if not found.any():
        return []
    rising = (np.diff(scores[found], axis=1) > 0).all(axis=1).mean()
    return [Steadiness(varied[0].name, int(found.sum()), float(rising))]


def _means(values: FloatArray) -> FloatArray:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
