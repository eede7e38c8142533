"""``evaluate``: run every method on the same faces, edit them, and compare.

Each method is an inversion of its own in ``methods/``, and its edits are outputs in ``strengths/``
and ``edits/``, so that an evaluation that was killed continues where it stopped.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from restyle.core.errors import RestyleError, SpecError
from restyle.core.metrics.features import Features, unit_length
from restyle.core.metrics.frechet import frechet_distance
from restyle.core.shown_text import are, plural
from restyle.pipeline.accounting.operation import bound_to
from restyle.pipeline.evaluation import comparison, curve
from restyle.pipeline.evaluation.comparison import (
    FRECHET,
    Row,
    reconstruction_rows,
    single_row,
    values_row,
)
from restyle.pipeline.evaluation.edits import Edited, direction_of, edit_equally
from restyle.pipeline.evaluation.markdown import markdown_of
from restyle.pipeline.evaluation.measured import Measured, read_all
from restyle.pipeline.evaluation.methods import Contender, Method, contenders
from restyle.pipeline.evaluation.page import write_page
from restyle.pipeline.evaluation.pictures import INPUT, edit_features, reconstruction_features
from restyle.pipeline.evaluation.request import Evaluation, EvaluationRequest
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.inversion.task import InversionTask
from restyle.pipeline.ledger.datasets import encode
from restyle.pipeline.listener import Listener
from restyle.pipeline.pictures.picture_file import write_file
from restyle.pipeline.storage.filesystem import Storage, open_storage
from restyle.pipeline.storage.marks import EVALUATION, marked_as

TABLE_FILE, CURVE_FILE = "table.parquet", "curve.parquet"
MARKDOWN_FILE, PAGE_FILE = "table.md", "evaluation.html"
_FEWEST = 2


def evaluate(request: EvaluationRequest, listener: Listener | None = None) -> Evaluation:
    """Evaluate methods, or continue an evaluation.

    Args:
        request: the methods, and what they have in common.
        listener: receives notes and progress.

    Raises:
        SpecError: a method or model is unknown or unsuited, there is no face, or the folder holds
            something else.
        FatalError: a file cannot be read or written.
        Interrupted: Ctrl-C; what is done stays.
    """
    listener = listener or Listener()
    asked = contenders([Method.parse(each) for each in request.methods], request.models)
    direction = direction_of(request, [each.spec for each in asked])
    storage = open_storage(request.out)
    bound = bound_to(storage)
    if held := bound[0].holds if bound else marked_as(storage, but=EVALUATION):
        raise SpecError(f"{storage.uri} holds {held}; choose another --out")
    # All are validated before the first begins, so that no fault is told hours later.
    for each in asked:
        InversionTask.of(_request_of(each, request))
    with _marked(storage):
        outputs = [(each, _inverted(each, request, listener)) for each in asked]
    measured = read_all(outputs)
    edits = [edit_equally(each, request, direction, listener) for each in measured if direction]
    return _compared(request, measured, edits)


@contextlib.contextmanager
def _marked(storage: Storage) -> Iterator[None]:
    """Mark the folder as one of an evaluation, unless an error ends this before anything is in it.

    No other command writes into a marked folder, so that the evaluation can be continued.
    """
    storage.write(EVALUATION, b"{}\n")
    try:
        yield
    except RestyleError:
        if storage.tree().keys() == {EVALUATION}:
            storage.delete(EVALUATION)
            storage.prune()
        raise


def _inverted(contender: Contender, request: EvaluationRequest, listener: Listener) -> str:
    """Invert with one method, or continue; return the output."""
    asked = _request_of(contender, request)
    listener.noted(f"{contender.method}, {contender.model}")
    invert_images(asked, listener)
    return asked.out


def _request_of(contender: Contender, request: EvaluationRequest) -> Request:
    """Return the request of a method's inversion."""
    base, out = request.base, f"{request.out}/methods/{contender.folder}"
    return replace(base, out=out, settings=contender.settings(base.settings))


def _compared(
    request: EvaluationRequest, measured: Sequence[Measured], edits: Sequence[Edited]
) -> Evaluation:
    """Compare what was made, and write table, curve and page."""
    inputs = reconstruction_features(measured[0], INPUT)
    rows = reconstruction_rows(measured)
    rows += _distance_rows(measured, inputs)
    rows += [row for change in _changes(edits) for row in _edit_rows(edits, change, inputs)]
    points = curve.points_of(measured)
    notes = [*_recogniser_notes(request), *_notes(measured, edits)]
    text = markdown_of(rows, len(measured[0].numbers), notes)
    out = request.out
    _write(out, TABLE_FILE, comparison.as_table(rows))
    _write(out, CURVE_FILE, curve.as_table(points))
    write_file(f"{out}/{MARKDOWN_FILE}", text.encode())
    page = write_page(f"{out}/{PAGE_FILE}", measured, edits, rows, points, notes)
    storage = open_storage(out)
    return Evaluation(
        len(measured[0].numbers),
        rows,
        points,
        page,
        storage.shown(TABLE_FILE),
        storage.shown(MARKDOWN_FILE),
        text,
        notes,
    )


def _write(out: str, name: str, table: pa.Table) -> None:
    write_file(f"{out}/{name}", encode(table))


def _distance_rows(measured: Sequence[Measured], inputs: Features) -> list[Row]:
    """Fréchet distances of the reconstructions from the inputs."""
    if len(inputs) < _FEWEST:
        return []
    distances = [frechet_distance(reconstruction_features(each), inputs) for each in measured]
    return [
        single_row(each, "", FRECHET, distance, _gain(index, distance, distances[0]))
        for index, (each, distance) in enumerate(zip(measured, distances, strict=True))
    ]


def _changes(edits: Sequence[Edited]) -> list[float]:
    return sorted({change for each in edits for change in each.changes})


def _edit_rows(edits: Sequence[Edited], change: float, inputs: Features) -> list[Row]:
    """What the edits to one change keep, of all methods that reach it."""
    rows: list[Row] = []
    first = edits[0]
    features = {
        index: edit_features(each, change)
        for index, each in enumerate(edits)
        if change in each.changes
    }
    faces = first.measured.contender.identity.config.align
    base = features.get(0)
    for index, own in features.items():
        each = edits[index]
        label, measured = each.label(change), each.measured
        strength = each.strengths[change]
        rows.append(single_row(measured, label, "strength", strength, math.nan))
        pairs = [("change", each.changes[change], first.changes.get(change))]
        pairs.append(("id_kept", each.kept[change], first.kept.get(change)))
        if faces:
            against = None if base is None else _similarity(base, inputs)
            pairs.append(("id_photograph", _similarity(own, inputs), against))
        rows += [
            values_row(measured, label, name, values, None if index == 0 else other)
            for name, values, other in pairs
        ]
        if len(inputs) >= _FEWEST:
            distance = frechet_distance(own, inputs)
            other = math.nan if base is None else frechet_distance(base, inputs)
            gain = _gain(index, distance, other)
            rows.append(single_row(measured, label, FRECHET, distance, gain))
    return rows


def _similarity(one: Features, other: Features) -> Features:
    """Cosine [N] of the features of each face."""
    cosines: Features = (unit_length(one) * unit_length(other)).sum(axis=1)
    return cosines


def _gain(index: int, value: float, first: float) -> float:
    return math.nan if index == 0 else value - first


def _recogniser_notes(request: EvaluationRequest) -> list[str]:
    """Which measures are by which face recogniser, where there are two."""
    weights = request.base.settings.identity_weights
    if weights is None:
        return []
    return [
        f"id_similarity is by the face recogniser of {weights.rpartition('/')[2]}; what edits keep "
        "and the Fréchet distances are by the embedded one"
    ]


def _notes(measured: Sequence[Measured], edits: Sequence[Edited]) -> list[str]:
    """What readers of the table should know."""
    notes = []
    compared = len(measured[0].numbers)
    for each in measured:
        if left := len(each.table) - compared:
            notes.append(
                f"{each.contender.method}, {each.contender.model}: {plural(left, 'face')} "
                f"{are(left)} left out, because not every method has all faces"
            )
    for edited in edits:
        for change, strength in edited.strengths.items():
            if not math.isfinite(strength):
                notes.append(
                    f"{edited.measured.contender.method}, {edited.measured.contender.model}: no "
                    f"strength from -3 to 3 changes the {edited.direction} by {change:+g}"
                )
    return notes
