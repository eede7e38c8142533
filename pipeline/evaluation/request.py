"""Request and outcome of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from restyle.pipeline.evaluation.comparison import Row
from restyle.pipeline.evaluation.curve import Point
from restyle.pipeline.execution.request import Request

NO_DIRECTION = "none"


@dataclass(frozen=True)
class EvaluationRequest:
    """Request of an evaluation.

    Attributes:
        base: what all methods have in common: inputs, workers, and settings whose model and steps
            are replaced by those of each method; its ``out`` is the evaluation's.
        methods: as ``restyle``, ``optimize:500``; the first is what the others are compared with.
        models: as for :func:`restyle.core.inference.model.load_model`.
        direction: along which the faces are edited; None for ``smile`` where the model has it, and
            ``none`` for no edits.
        changes: of the attribute, at which the edits are compared.
    """

    base: Request
    methods: Sequence[str]
    models: Sequence[str] = ("faces64",)
    direction: str | None = None
    changes: Sequence[float] = (-0.1, 0.1)

    @property
    def out(self) -> str:
        """The evaluation's folder, a path or any fsspec URI."""
        return self.base.out.rstrip("/")


@dataclass(frozen=True)
class Evaluation:
    """Outcome of an evaluation.

    Attributes:
        faces: number of compared faces.
        rows: the table.
        points: the curve of quality against time.
        notes: remarks for readers: what was left out, and why.
        page: path or URI of the page.
        table: of the table.
        markdown: of the table as Markdown.
        text: that Markdown.
    """

    faces: int
    rows: Sequence[Row]
    points: Sequence[Point]
    page: str
    table: str
    markdown: str
    text: str
    notes: Sequence[str] = field(default_factory=list)
