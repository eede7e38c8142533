"""Edits at equal change: the strengths that change an attribute equally, and what they keep.

Each method's faces are edited twice. A row of strengths tells how much each changes the attribute;
between them lies the strength that changes it as much as the other methods' do. With these the
faces are edited again, and it is these pictures that are compared.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from restyle.core.editing.attributes import SCORERS
from restyle.core.editing.equal_change import strength_for
from restyle.core.editing.lookup import directions_of
from restyle.core.errors import SpecError
from restyle.pipeline.editing.edit import edit
from restyle.pipeline.editing.request import EditRequest, Move
from restyle.pipeline.editing.rows import FOLDER, change_column, strength_column
from restyle.pipeline.evaluation.measured import KEY, Floats, Ints, Measured, keys_of
from restyle.pipeline.evaluation.request import NO_DIRECTION, EvaluationRequest
from restyle.pipeline.ledger.entries import FileSet
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import open_parquet
from restyle.pipeline.listener import Listener

STRENGTHS = tuple(float(strength) for strength in range(-3, 4))
"""With which the change is measured."""

_DEFAULT = "smile"


@dataclass(frozen=True, eq=False)
class Edited:
    """A method's edits at equal change.

    Attributes:
        measured: the method.
        out: the output of the edits; empty if no change is reached.
        strengths: by change; NaN where no strength changes the attribute so far.
        direction: name of the direction.
        changes: [N] by change, of the attribute; NaN where no face was found.
        kept: [N] by change, identity against the unedited result.
    """

    measured: Measured
    out: str
    strengths: dict[float, float]
    direction: str
    changes: dict[float, Floats]
    kept: dict[float, Floats]

    def label(self, change: float) -> str:
        """What is measured, as in the table: ``smile +0.1``."""
        return f"{self.direction} {change:+g}"


def direction_of(request: EvaluationRequest, models: Sequence[str]) -> str | None:
    """Name of the direction to edit along; None for no edits.

    Raises:
        SpecError: the attribute of the direction cannot be measured, or a model lacks it.
    """
    if request.direction == NO_DIRECTION:
        return None
    if request.direction is None:
        return _DEFAULT if all(_DEFAULT in directions_of(model) for model in models) else None
    if request.direction not in SCORERS:
        raise SpecError(
            f"edits along {request.direction!r} cannot be compared, because nothing measures its "
            f"change; choose among {', '.join(SCORERS)}, or {NO_DIRECTION} for no edits"
        )
    for model in models:
        if request.direction not in directions_of(model):
            raise SpecError(f"{model} has no direction {request.direction!r}")
    return request.direction


def edit_equally(
    measured: Measured,
    request: EvaluationRequest,
    direction: str,
    listener: Listener,
) -> Edited:
    """Edit a method's faces, or continue.

    Args:
        measured: the method.
        request: of the evaluation.
        direction: name of the direction.
        listener: receives notes and progress.

    Raises:
        FatalError: a file cannot be read or written.
        Interrupted: Ctrl-C; what was edited stays.
    """
    folder = measured.contender.folder

    def made(name: str, strengths: Sequence[float]) -> str:
        to = f"{request.out}/{name}"
        base = request.base
        asked = EditRequest(
            out=measured.snapshot.out,
            to=to,
            moves=[Move(direction, tuple(strengths))],
            device=base.device,
            workers=base.workers,
        )
        edit(asked, listener)
        return to

    tried = made(f"strengths/{folder}-{direction}", STRENGTHS)
    scores = _columns(tried, measured, direction, STRENGTHS)[direction]
    found = np.isfinite(scores).all(axis=1)
    grid = np.array(STRENGTHS)
    strengths = {
        change: round(strength_for(change, grid, scores[found]), 4) if found.any() else math.nan
        for change in sorted(set(request.changes))
    }
    reached = [strength for strength in strengths.values() if math.isfinite(strength)]
    if not reached:
        return Edited(measured, "", strengths, direction, {}, {})
    # More faces give other strengths, and an output has edits of one set of strengths.
    digest = hashlib.sha256(repr(reached).encode()).hexdigest()[:8]
    out = made(f"edits/{folder}-{direction}-{digest}", reached)
    columns = _columns(out, measured, direction, reached)
    at = {change: reached.index(each) for change, each in strengths.items() if each in reached}
    changes, kept = columns[change_column(direction)], columns["id_similarity"]
    return Edited(
        measured,
        out,
        strengths,
        direction,
        {change: changes[:, index] for change, index in at.items()},
        {change: kept[:, index] for change, index in at.items()},
    )


def _columns(
    out: str, measured: Measured, direction: str, strengths: Sequence[float]
) -> dict[str, Floats]:
    """Values [N, S] by column of the compared faces; NaN where there is none."""
    names = [direction, change_column(direction), "id_similarity"]
    found = {name: np.full((len(measured.numbers), len(strengths)), np.nan) for name in names}
    place = {key: row for row, key in enumerate(measured.keys)}
    for file in edit_files(Output.at(out).sets()):
        with open_parquet(out, file) as parquet:
            rows = parquet.read([*KEY, strength_column(direction), *names], use_threads=False)
        at = np.array([place.get(key, -1) for key in keys_of(rows)])
        column = _nearest(rows[strength_column(direction)].to_numpy(), strengths)
        for name in names:
            values = rows[name].to_numpy()
            found[name][at[at >= 0], column[at >= 0]] = values[at >= 0]
    return found


def _nearest(values: Floats, strengths: Sequence[float]) -> Ints:
    # The column is float32.
    found: Ints = np.abs(values[:, None] - np.array(strengths)[None]).argmin(axis=1)
    return found


def edit_files(sets: Sequence[FileSet]) -> list[str]:
    """Names of the files of edits of some units."""
    return [
        file.name
        for files in sets
        for file in files.files
        if file.rows and file.name.startswith(f"{FOLDER}/")
    ]
