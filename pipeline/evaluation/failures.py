"""The faces on which each method fails worst, with what every method makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from restyle.core.metrics.registry import Metric, find_metric
from restyle.pipeline.evaluation.measured import Measured
from restyle.pipeline.report.gallery import FaceStrip, key_of, read_gallery

WORST = 3
"""Number of faces of each method."""

_JUDGES = ("lpips", "l2")
"""Metrics that say which faces are worst; the first that was measured counts."""


@dataclass(frozen=True)
class Failure:
    """A face, with the result of every method.

    Attributes:
        source: the photograph.
        face: number of the face in it.
        input: data URI of the aligned input.
        results: of each method: data URI of its picture, and its value.
        worst_of: number of the method.
    """

    source: str
    face: int
    input: str
    results: tuple[tuple[str, float], ...]
    worst_of: int


def judge(measured: Sequence[Measured]) -> Metric | None:
    """The metric that says which faces are worst; None if none was measured."""
    names = [*_JUDGES, *measured[0].steps]
    for name in names:
        metric = find_metric(name)
        if metric is not None and all(name in each.values for each in measured):
            return metric
    return None


def read_failures(measured: Sequence[Measured], metric: Metric) -> list[list[Failure]]:
    """The worst faces of each method, the worst first.

    Raises:
        FatalError: a file is damaged.
    """
    sign = -1.0 if metric.better == "lower" else 1.0
    ranks = [np.nan_to_num(sign * each.values[metric.name], nan=np.inf) for each in measured]
    worst = [np.argsort(each, kind="stable")[:WORST] for each in ranks]
    shown = sorted({int(row) for rows in worst for row in rows})
    strips = [strips_of(each, shown) for each in measured]
    return [
        [
            failure
            for row in rows.tolist()
            if (failure := _failure(measured, strips, row, number, metric)) is not None
        ]
        for number, rows in enumerate(worst)
    ]


def strips_of(each: Measured, rows: Sequence[int]) -> dict[int, FaceStrip]:
    """Pictures of some of the compared faces, by their numbers; without those that kept none."""
    places = {row: each.table.place(int(each.numbers[row])) for row in rows}
    found = read_gallery(
        each.snapshot.out, each.snapshot.sets, most=0, special=list(places.values())
    ).special
    return {row: found[key] for row, place in places.items() if (key := key_of(place)) in found}


def _failure(
    measured: Sequence[Measured],
    strips: Sequence[dict[int, FaceStrip]],
    row: int,
    number: int,
    metric: Metric,
) -> Failure | None:
    own = [each.get(row) for each in strips]
    if any(strip is None or not strip.steps for strip in own) or own[0] is None:
        return None
    first = own[0].input
    return Failure(
        own[0].source,
        own[0].face,
        "" if first is None else first.image,
        tuple(
            (strip.steps[-1].image, float(each.values[metric.name][row]))
            for each, strip in zip(measured, own, strict=True)
            if strip is not None
        ),
        number,
    )
