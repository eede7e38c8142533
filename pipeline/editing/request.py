"""Request and outcome of an edit run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from restyle.core.editing.directions import Direction, Layers
from restyle.core.editing.lookup import find_direction
from restyle.pipeline.editing.settings import EditSettings, PasteBack
from restyle.pipeline.editing.summary import EditSummary
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.results.face_rows import Selection


@dataclass(frozen=True)
class Move:
    """A direction with strengths and layers.

    Attributes:
        direction: name or file of the direction.
        strengths: in units of its scale.
        layers: the styles to move, or ``all``; the direction's own when None.
    """

    direction: str
    strengths: tuple[float, ...]
    layers: Layers | Literal["all"] | None = None

    def found(self, model: str) -> Direction:
        """The direction with these layers.

        Raises:
            SpecError, CheckpointError: the direction does not exist or is damaged.
        """
        direction = find_direction(self.direction, model)
        if self.layers is None:
            return direction
        return direction.described(layers=None if self.layers == "all" else self.layers)


@dataclass(frozen=True)
class EditRequest:
    """Request of an edit run.

    Attributes:
        out: the finished inversion, a path or any fsspec URI.
        to: the output of the edits, likewise.
        moves: directions with strengths, at least one.
        truncation: share of a latent's distance to the average that is kept.
        score: whether to measure attributes by landmarks.
        paste_back: what to paste into the photographs.
        selection: the faces to edit.
        model: to render with; the inversion's model when None.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: executor and actors.
        allow_private_urls: whether photographs may be read from this machine's network.
    """

    out: str
    to: str
    moves: Sequence[Move]
    truncation: float = 1.0
    score: bool = True
    paste_back: PasteBack = "none"
    selection: Selection = field(default_factory=Selection)
    model: str | None = None
    device: str = "auto"
    workers: Workers = field(default_factory=Workers)
    allow_private_urls: bool = False


@dataclass(frozen=True)
class EditOutcome:
    """Outcome of an edit run.

    Attributes:
        photographs: number of photographs whose faces were edited in this run.
        settings: of the output.
        summary: of the whole output, including earlier runs.
        seconds: wall time.
        report: path of ``report.html``.
    """

    photographs: int
    settings: EditSettings
    summary: EditSummary
    seconds: float
    report: str
