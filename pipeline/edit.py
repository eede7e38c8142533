"""``restyle edit``: the latents of a finished inversion, edited into a dataset of their own.

Faces are edited some at a time, and the rows of each lot are one file, which is there whole or not
at all. What stands in a file is done: the same command again does the rest, and what is new.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from pipeline.edit_rows import FOLDER
from pipeline.edit_settings import EditedDirection, EditSettings, PasteBack, bind
from pipeline.edit_workers import EditedLot, EditJob, edit_workers, edited_lot
from pipeline.editor import most_faces
from pipeline.face_rows import Key, Selection, read_faces, select_keys
from pipeline.lock import driver_lock
from pipeline.parquet_files import open_parquet
from pipeline.render_model import load_renderer
from pipeline.request import Interrupted, Listener, Progress
from pipeline.run_record import spec_of
from pipeline.settings import ResolvedSettings
from pipeline.status import settings_of
from pipeline.storage import Storage, open_storage
from restyle_core.attributes import SCORERS
from restyle_core.directions import Direction, Layers, find_direction
from restyle_core.errors import SpecError
from restyle_core.fingerprint import synthesis_fingerprint
from restyle_core.model import Model

_WORTH_PROCESSES = 4
"""Lots from which on processes are started for them."""


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
        workers: processes; None for what suits the work.
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
    workers: int | None = None


@dataclass(frozen=True)
class EditOutcome:
    """What a run came to.

    Attributes:
        faces: edited in this run.
        total: faces that were asked for, earlier runs included.
        settings: of the output.
        seconds: wall time.
    """

    faces: int
    total: int
    settings: EditSettings
    seconds: float


def edit(request: EditRequest, listener: Listener | None = None) -> EditOutcome:
    """Edit faces that were not edited yet.

    Raises:
        SpecError: there is no inversion, no such direction, or what is there was made otherwise.
        FatalError: a file is damaged, or nothing can be written.
        Interrupted: Ctrl-C; what is done stays.
    """
    listener = listener or Listener()
    began = time.monotonic()
    source = open_storage(request.out)
    inverted = settings_of(source)
    spec = request.model or spec_of(source, inverted)
    directions = [move.found(spec) for move in request.moves]
    model = load_renderer(source, inverted, request.model, request.device)
    settings = _settings(request, inverted, model, directions)
    _note_strangers(directions, model, listener)
    keys = select_keys(request.out, request.selection)
    if not keys:
        raise SpecError(f"{source.uri} holds no face that was asked for")
    target = open_storage(request.to)
    target.check_writable()
    with driver_lock(target, listener) as lock:
        bind(target, settings)
        target.sweep(FOLDER)
        left = set(keys) - done_keys(request.to, target)
        inputs = {key[:2] for key in left} if settings.paste_back != "none" else set()
        job = EditJob(
            out=request.out,
            model=spec,
            dtype=inverted.dtype,
            device=request.device,
            settings=settings,
            directions=directions,
            inputs=frozenset(inputs),
        )
        done = 0
        try:
            for lot in _edited(job, model, left, request.workers):
                lock.check()
                target.write(f"{FOLDER}/{_part_name(lot.keys)}.parquet", lot.data)
                done += len(lot.keys)
                seconds = time.monotonic() - began
                listener.advanced(Progress(done, len(left), 0, seconds))
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped after {done} of {len(left)} faces; the same command continues"
            ) from None
    return EditOutcome(done, len(keys), settings, time.monotonic() - began)


def _edited(job: EditJob, model: Model, left: set[Key], workers: int | None) -> Iterator[EditedLot]:
    """All lots, edited here or by processes, in whichever order they are done."""
    size = most_faces(model)
    lots = read_faces(job.out, left, size)
    count = -(-len(left) // size)
    if workers is None:
        # Processes take seconds to start, and one GPU is not shared.
        alone = count < _WORTH_PROCESSES or model.device.type != "cpu"
        workers = 1 if alone else len(os.sched_getaffinity(0))
    workers = min(workers, count)
    if workers <= 1:
        editor = job.editor(model)
        for faces in lots:
            yield edited_lot(editor, job.settings, faces)
        return
    with edit_workers(job, workers) as processes:
        yield from processes.map(lots)


def done_keys(to: str, storage: Storage) -> set[Key]:
    """The faces whose edits stand in an output."""
    found: set[Key] = set()
    for name in storage.sizes(FOLDER):
        with open_parquet(to, name) as parquet:
            table = parquet.read(columns=["image_id", "revision", "face"], use_threads=False)
            found |= _keys(table)
    return found


def _keys(table: pa.Table) -> set[Key]:
    columns = (table.column(name).to_pylist() for name in ("image_id", "revision", "face"))
    return set(zip(*columns, strict=True))


def _settings(
    request: EditRequest,
    inverted: ResolvedSettings,
    model: Model,
    directions: Sequence[Direction],
) -> EditSettings:
    if request.paste_back != "none" and not inverted.align:
        raise SpecError(
            f"the images of {request.out} were taken whole; there is nothing to paste a face into"
        )
    settings = EditSettings(
        source=inverted.fingerprint,
        model=f"{model.config.name}:{model.encoder_name}",
        model_fingerprint=model.fingerprint,
        directions=tuple(
            EditedDirection(
                name=direction.name,
                sha256=_digest(direction),
                layers=direction.about.layers,
                strengths=move.strengths,
            )
            for move, direction in zip(request.moves, directions, strict=True)
        ),
        truncation=request.truncation,
        attributes=tuple(SCORERS) if request.score and model.config.align else (),
        paste_back=request.paste_back,
    )
    settings.check()
    return settings


def _note_strangers(directions: Sequence[Direction], model: Model, listener: Listener) -> None:
    own = synthesis_fingerprint(model.generator)
    for direction in directions:
        if direction.about.generator not in (None, own):
            listener.noted(
                f"direction {direction.name} was found for another generator; "
                "what it does to this one is to be seen"
            )


def _digest(direction: Direction) -> str:
    digest = hashlib.sha256(repr(direction.about.scale).encode())
    digest.update(direction.vector.tobytes())
    return digest.hexdigest()


def _part_name(keys: Sequence[Key]) -> str:
    """The same for the same faces, so that a lot that is done twice does not stand there twice."""
    digest = hashlib.blake2b(digest_size=12)
    for image_id, revision, face in keys:
        digest.update(f"{image_id}/{revision}/{face};".encode())
    return f"part-{digest.hexdigest()}"
