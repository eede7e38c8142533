"""Request and outcome of an edit run, and the directions that a request names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from restyle.core.editing.directions import Direction, Layers
from restyle.core.editing.lookup import directions_of, earlier_versions, find_direction
from restyle.pipeline.editing.settings import EditSettings, PasteBack, digest
from restyle.pipeline.editing.summary import EditSummary
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.listener import Listener
from restyle.pipeline.monitoring.monitor import Monitoring
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
        return self.with_layers(find_direction(self.direction, model))

    def with_layers(self, direction: Direction) -> Direction:
        """A direction with these layers."""
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
        monitoring: how the run is watched.
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
    monitoring: Monitoring = field(default_factory=Monitoring)


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


def find_directions(
    moves: Sequence[Move], spec: str, earlier: EditSettings | None, listener: Listener
) -> list[Direction]:
    """Find directions, and note what a user should know about them.

    Args:
        moves: the user's.
        spec: of the model, as for ``load_model``.
        earlier: settings recorded in the output; None if it is new.
        listener: receiver of the notes.

    Raises:
        SpecError, CheckpointError: a direction does not exist or is damaged.
    """
    recorded = {} if earlier is None else {each.name: each.sha256 for each in earlier.directions}
    found = [_find(move, spec, recorded, listener) for move in moves]
    _note_strangers(moves, found, spec, listener)
    for move, direction in zip(moves, found, strict=True):
        if line := direction.beyond_reliable(move.strengths):
            listener.noted(line)
    return found


def _find(move: Move, spec: str, recorded: dict[str, str], listener: Listener) -> Direction:
    """Find a direction; of a model's, the version that the output was begun with."""
    direction = move.found(spec)
    wanted = recorded.get(direction.name)
    if wanted not in (None, digest(direction)):
        for each in earlier_versions(move.direction, spec):
            if digest(each) == wanted:
                listener.noted(
                    f"{each.name} is the model's earlier direction of this name, as in the edits "
                    "that are there already; choose another --out for the present one"
                )
                return move.with_layers(each)
    return direction


def _note_strangers(
    moves: Sequence[Move], directions: Sequence[Direction], spec: str, listener: Listener
) -> None:
    """Notify the listener of imported directions that were found for another generator."""
    own = directions_of(spec)
    strangers = [
        direction
        for move, direction in zip(moves, directions, strict=True)
        if move.direction not in own and direction.about.generator is not None
    ]
    if not strangers:
        return
    # Imported late: only a comparison of the generators' weights needs torch.
    from restyle.core.checkpoints.fingerprint import synthesis_fingerprint
    from restyle.core.inference.model import load_model

    generator = synthesis_fingerprint(load_model(spec, device="cpu").generator)
    for direction in strangers:
        if direction.about.generator != generator:
            listener.noted(
                f"direction {direction.name} was found for another generator; "
                "what it does to this one is to be seen"
            )
