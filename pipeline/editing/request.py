"""What a run of edits is asked, and what it tells at its end."""

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
    """A direction, how far, and where.

    Attributes:
        direction: its name, or a file.
        strengths: in units of its scale.
        layers: the styles to move, or ``all``; None for those that it is meant for.
    """

    direction: str
    strengths: tuple[float, ...]
    layers: Layers | Literal["all"] | None = None

    def found(self, model: str) -> Direction:
        """The direction, meant for the styles that are to be moved.

        Raises:
            SpecError, CheckpointError: there is none, or it is damaged.
        """
        direction = find_direction(self.direction, model)
        if self.layers is None:
            return direction
        return direction.described(layers=None if self.layers == "all" else self.layers)


@dataclass(frozen=True)
class EditRequest:
    """What the user asked for.

    Attributes:
        out: the finished inversion, a path or any fsspec URI.
        to: where the edits go, the same.
        moves: at least one.
        truncation: share of a latent's distance to the average that is kept.
        score: measure attributes by landmarks.
        paste_back: what is put back into the photographs.
        selection: which faces.
        model: what renders; None for the model that inverted.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: where the work is done.
        allow_private_urls: photographs may be read from this machine's own servers and its network.
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
    """What a run came to.

    Attributes:
        photographs: whose faces were edited in this run.
        settings: of the output.
        summary: the whole output, earlier runs included.
        seconds: wall time.
        report: where ``report.html`` is.
    """

    photographs: int
    settings: EditSettings
    summary: EditSummary
    seconds: float
    report: str
