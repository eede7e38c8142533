"""Validation and answers of requests for the page's data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from restyle.core.errors import SpecError
from restyle.core.shown_text import visible_strings
from restyle.pipeline.report.change_maps import heatmap
from restyle.pipeline.results.faces import Range, Selection
from restyle.pipeline.viewer.pictures import thumbnail
from restyle.pipeline.viewer.run import Json, ViewedRun

_LONGEST = 1000
_REJECTS = 100

_PICTURE = re.compile(r"/(picture|change)/(\d{1,4})/(\d{1,9})/(-1|\d{1,3})")
_EDIT = re.compile(r"/edit/(\d{1,4})/(\d{1,9})")

Query = Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """The body of a response and its media type."""

    body: bytes
    kind: str
    may_be_kept: bool = False


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
    }
    if path in tables:
        text = json.dumps(visible_strings(tables[path](runs, query)), allow_nan=False)
        return Answer(text.encode(), "application/json")
    if match := _PICTURE.fullmatch(path):
        run, number, step = _run(runs, match[2]), int(match[3]), int(match[4])
        if match[1] == "change":
            data = heatmap(run.change(number, step), _scale(query))
            return Answer(data, "image/png", may_be_kept=True)
        data = thumbnail(run.picture(number, step), "this picture")
        return Answer(data, "image/webp", may_be_kept=True)
    if match := _EDIT.fullmatch(path):
        strengths = {name: _float(name, value) for name, value in query.items()}
        data = _run(runs, match[1]).edited(int(match[2]), strengths)
        return Answer(data, "image/webp")
    return None


def selection(query: Query) -> Selection:
    """Parse ``name``, ``sort``, ``falling``, ``METRIC.low`` and ``METRIC.high``.

    Raises:
        SpecError: a bound is not a number.
    """
    bounds: dict[str, dict[str, float]] = {}
    for key, value in query.items():
        metric, dot, side = key.rpartition(".")
        if dot and side in ("low", "high") and value:
            bounds.setdefault(metric, {})[side] = _float(key, value)
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
    return run.page(selection(query), _int("page", query.get("page", "0")), _other(runs, query))


def _face(runs: Sequence[ViewedRun], query: Query) -> Json:
    run, other = _run(runs, query.get("run", "0")), _other(runs, query)
    found = run.face(_int("face", query.get("face", "")), other)
    if other is not None and found["other"] is not None:
        found["other"] = other.face(found["other"]["number"])
    return found


def _rejects(runs: Sequence[ViewedRun], query: Query) -> Json:
    run = _run(runs, query.get("run", "0"))
    page = max(0, _int("page", query.get("page", "0")))
    return run.reject_page(
        query.get("name", "")[:_LONGEST], query.get("reason", ""), page, _REJECTS
    )


def _run(runs: Sequence[ViewedRun], text: str) -> ViewedRun:
    number = _int("run", text)
    if not 0 <= number < len(runs):
        raise SpecError(f"there is no run {number}")
    return runs[number]


def _other(runs: Sequence[ViewedRun], query: Query) -> ViewedRun | None:
    text = query.get("with", "")
    return _run(runs, text) if text else None


def _int(name: str, text: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", text, re.ASCII):
        raise SpecError(f"{name} must be a whole number")
    return int(text)


def _float(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SpecError(f"{name[:50]} must be a number")
    return value


def _scale(query: Query) -> float:
    value = _float("scale", query.get("scale", "0.5"))
    if value <= 0:
        raise SpecError("scale must be above 0")
    return value
