"""Validation and answers of requests for the page's data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from restyle.core.errors import RestyleError, SpecError
from restyle.core.shown_text import visible_strings
from restyle.pipeline.report.change_maps import heatmap
from restyle.pipeline.results.faces import Range, Selection
from restyle.pipeline.viewer.answers import Answer, number_from, whole_from
from restyle.pipeline.viewer.pictures import Kind, thumbnail
from restyle.pipeline.viewer.run import Json, ViewedRun
from restyle.pipeline.viewer.sliders.editable import (
    Editable,
    edited,
    photo_answer,
    read_photo,
    shown,
    wanted,
)

_LONGEST = 1000
_REJECTS = 100

_PICTURE = re.compile(r"/(picture|change|difference)/(\d{1,4})/(\d{1,9})/(-1|\d{1,3})")
_EDIT = re.compile(r"/(edit|photo)/(\d{1,4})/(\d{1,9})")
_NEWEST = re.compile(r"/newest/(\d{1,4})/([\w-]{1,100}/\d{1,5})")
_UPLOADED = re.compile(r"/uploaded/(\d{1,4})/([0-9a-f]{32})/(edit|photo|step/(\d{1,3}))")

Query = Mapping[str, str]


def answer(runs: Sequence[ViewedRun], path: str, query: Query) -> Answer | None:
    """Answer a request for data.

    Args:
        runs: the runs on the page.
        path: of the request.
        query: its parameters.

    Returns:
        The answer; None for an unknown path.

    Raises:
        SpecError: the parameters are invalid or name something that does not exist.
        RestyleError: the run cannot be read.
    """
    tables: dict[str, Callable[[Sequence[ViewedRun], Query], Json]] = {
        "/data/faces": _faces,
        "/data/face": _face,
        "/data/rejects": _rejects,
        "/data/photo": _photo,
        "/data/live": _live,
    }
    if path in tables:
        return as_json(tables[path](runs, query))
    if match := _PICTURE.fullmatch(path):
        run, step = _run(runs, match[2]), int(match[4])
        number = run.number_at(int(match[3]), query.get("of", ""))
        if match[1] != "picture":
            kind: Kind = "change" if match[1] == "change" else "difference"
            data = heatmap(run.map_of(number, step, kind), _scale(query))
            return Answer(data, "image/png", may_be_kept=True)
        data = thumbnail(run.picture(number, step), "this picture")
        return Answer(data, "image/webp", may_be_kept=True)
    if match := _EDIT.fullmatch(path):
        run = _run(runs, match[2])
        number = run.number_at(int(match[3]), query.get(":of", ""))
        return _edited(run, run.editable(number), match[1], query)
    if match := _NEWEST.fullmatch(path):
        data = _run(runs, match[1]).live.picture(match[2])
        return Answer(thumbnail(data, "this picture"), "image/webp", may_be_kept=True)
    if match := _UPLOADED.fullmatch(path):
        run = _run(runs, match[1])
        if match[4] is not None:
            return shown(run.uploads.step(match[2], int(match[4])))
        return _edited(run, run.uploads.face(match[2]), match[3], query)
    return None


def upload(runs: Sequence[ViewedRun], query: Query, data: bytes) -> Answer:
    """Take a photograph that was dropped on the page.

    Raises:
        SpecError: it cannot be inverted.
        RestyleError: the model cannot be loaded.
    """
    return as_json(_run(runs, query.get("run", "0")).uploads.take(data))


def as_json(value: Json) -> Answer:
    """A value as JSON, with control characters escaped visibly."""
    text = json.dumps(visible_strings(value), allow_nan=False)
    return Answer(text.encode(), "application/json")


def _edited(run: ViewedRun, face: Editable, what: str, query: Query) -> Answer:
    if what == "photo":
        return photo_answer(read_photo(face).image)
    return edited(run.edits, face, wanted(query))


def selection(query: Query) -> Selection:
    """Parse ``name``, ``sort``, ``falling``, ``METRIC.low`` and ``METRIC.high``.

    Raises:
        SpecError: a bound is not a number.
    """
    bounds: dict[str, dict[str, float]] = {}
    for key, value in query.items():
        metric, dot, side = key.rpartition(".")
        if dot and side in ("low", "high") and value:
            bounds.setdefault(metric, {})[side] = number_from(key, value)
    return Selection(
        name=query.get("name", "")[:_LONGEST],
        ranges=[
            Range(metric, each.get("low"), each.get("high")) for metric, each in bounds.items()
        ],
        sort=query.get("sort", ""),
        is_falling=query.get("falling") == "1",
    )


def _faces(runs: Sequence[ViewedRun], query: Query) -> Json:
    run = _run(runs, query.get("run", "0"))
    return run.page(
        selection(query), whole_from("page", query.get("page", "0")), _other(runs, query)
    )


def _face(runs: Sequence[ViewedRun], query: Query) -> Json:
    run, other = _run(runs, query.get("run", "0")), _other(runs, query)
    found = run.face(run.number_of(query.get("face", "")), other)
    if other is not None and found["other"] is not None:
        found["other"] = other.face(found["other"]["number"])
    return found


def _photo(runs: Sequence[ViewedRun], query: Query) -> Json:
    """Why the photograph of a face cannot be shown, which is no error; empty if it can."""
    run = _run(runs, query.get("run", "0"))
    face = run.editable(run.number_of(query.get("face", "")))
    try:
        read_photo(face)
    except RestyleError as error:
        return {"problem": str(error)}
    return {"problem": ""}


def _live(runs: Sequence[ViewedRun], query: Query) -> Json:
    return _run(runs, query.get("run", "0")).live.now()


def _rejects(runs: Sequence[ViewedRun], query: Query) -> Json:
    run = _run(runs, query.get("run", "0"))
    page = max(0, whole_from("page", query.get("page", "0")))
    return run.reject_page(
        query.get("name", "")[:_LONGEST], query.get("reason", ""), page, _REJECTS
    )


def _run(runs: Sequence[ViewedRun], text: str) -> ViewedRun:
    number = whole_from("run", text)
    if not 0 <= number < len(runs):
        raise SpecError(f"there is no run {number}")
    return runs[number]


def _other(runs: Sequence[ViewedRun], query: Query) -> ViewedRun | None:
    text = query.get("with", "")
    return _run(runs, text) if text else None


def _scale(query: Query) -> float:
    value = number_from("scale", query.get("scale", "0.5"))
    if value <= 0:
        raise SpecError("scale must be above 0")
    return value
