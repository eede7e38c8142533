"""``restyle edit``: the latents of a finished inversion, edited into a dataset of their own.

An output of edits has a manifest, a ledger and files that are there whole or not at all, as an
inversion's has: the same command again does what is left, and what is new.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from restyle.core.editing.attributes import SCORERS
from restyle.core.editing.directions import Direction
from restyle.core.editing.lookup import directions_of
from restyle.core.errors import SpecError
from restyle.core.networks.config import absolute_spec
from restyle.pipeline.accounting.findings import check_units
from restyle.pipeline.accounting.machine import Workplace
from restyle.pipeline.accounting.run_record import read_run, spec_of
from restyle.pipeline.accounting.status import bound_settings
from restyle.pipeline.editing.job import EditJob
from restyle.pipeline.editing.plan import EditPlanner, faces_together
from restyle.pipeline.editing.request import EditOutcome, EditRequest, Move
from restyle.pipeline.editing.rows import FOLDER
from restyle.pipeline.editing.settings import (
    EditedDirection,
    EditSettings,
    check_same,
    find_settings,
    write_settings,
)
from restyle.pipeline.editing.stages import STAGES
from restyle.pipeline.editing.summary import summarise
from restyle.pipeline.execution.executor import Engine, executor, is_local
from restyle.pipeline.execution.placement import PLAIN, choose, operators
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.rounds import FAILURES, Execute, Rounds
from restyle.pipeline.inversion.model_identity import ModelIdentity, identify
from restyle.pipeline.inversion.preparation import threads_here
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.ledger.datasets import LATENTS, latent_shape
from restyle.pipeline.ledger.manifest import UnitRef, plan_names, read_units
from restyle.pipeline.ledger.parquet_files import open_parquet
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.ledger.snapshot import Current, read_current
from restyle.pipeline.listener import Interrupted, Listener, Progress
from restyle.pipeline.results.face_rows import Selection
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.addresses import absolute_uri
from restyle.pipeline.storage.filesystem import Storage, open_storage
from restyle.pipeline.storage.lock import driver_lock


@dataclass
class _Account:
    """As :class:`restyle.pipeline.execution.rounds.Account`."""

    progress: Progress = field(default_factory=lambda: Progress(0, 0, 0, 0.0))

    def computed_at(self, workplace: Workplace) -> None:
        """Nothing is recorded of it."""


def edit(
    request: EditRequest, listener: Listener | None = None, engine: Engine | None = None
) -> EditOutcome:
    """Edit faces that were not edited yet, and what an earlier run left.

    Args:
        request: the job.
        listener: is told about progress.
        engine: gives what runs units; when None, Ray, or this process where there is little to do.

    Raises:
        SpecError: there is no inversion, no such direction, or what is there was made otherwise.
        FatalError: a file is damaged, or nothing can be written.
        Interrupted: Ctrl-C; what is done stays.
    """
    listener = listener or Listener()
    began = time.monotonic()
    current = read_current(request.out)
    job = _job_of(request, current, listener)
    target = open_storage(request.to)
    bound = bound_settings(target)
    if isinstance(bound, ResolvedSettings) or (bound is None and plan_names(target)):
        raise SpecError(f"{target.uri} holds an inversion; choose another --to")
    target.check_writable()
    account = _Account()
    with driver_lock(target, listener) as lock:
        try:
            pending = _planned(request.selection, current, target, job)
            if pending:
                _begin(target, job, request.workers, listener)
                with _engine(engine, request.workers, job, pending, listener) as execute:
                    Rounds(target, pending, account, lock, listener, 1.0).run(execute, job)
                _sweep(target)
        except KeyboardInterrupt:
            progress = account.progress
            raise Interrupted(
                f"interrupted; {progress.done} of {progress.total} photographs are done in this "
                "run, run the same command again to continue"
            ) from None
    done = ledger.read_records(target, sorted(ledger.committed(target)))
    summary = summarise(done, job.settings)
    return EditOutcome(account.progress.done, job.settings, summary, time.monotonic() - began)


def _planned(
    selection: Selection, current: Current, target: Storage, job: EditJob
) -> dict[str, UnitRef]:
    """Bring the manifest of the edits up to date; what is to be done."""
    earlier, done = find_settings(target), ledger.committed(target)
    check_units(target, read_units(target), done)
    if earlier is not None and (done or target.sizes(FOLDER)):
        check_same(target, job.settings, earlier)

    def bind() -> None:
        if earlier != job.settings:
            write_settings(target, job.settings)

    shape = _latent_shape(current)
    most = faces_together(shape[0], len(job.settings.combinations))
    if not EditPlanner(current, target, most, bind).plan(selection):
        raise SpecError(f"{current.storage.uri} holds no face that was asked for")
    bind()
    return {unit.name: unit for unit in read_units(target) if unit.name not in done}


def _begin(target: Storage, job: EditJob, workers: Workers, listener: Listener) -> None:
    """What must be so before the first unit is run."""
    kernels = operators(job.device, workers)
    if kernels.startswith(PLAIN):
        listener.noted(f"the generator's operators: {kernels}")
    _sweep(target)
    target.delete(FAILURES)


def _sweep(target: Storage) -> None:
    for folder in ("", ledger.FOLDER, FOLDER):
        target.sweep(folder)


def _engine(
    engine: Engine | None,
    workers: Workers,
    job: EditJob,
    pending: dict[str, UnitRef],
    listener: Listener,
) -> AbstractContextManager[Execute]:
    if engine is not None:
        return engine()
    pictures = sum(unit.images for unit in pending.values()) * len(job.settings.combinations)
    on_ray_here = workers.address is None and not is_local(workers, pictures)
    if on_ray_here and not workers.has_actors and job.device == "cpu":
        # Landmarks are found by one core at a time in a process.
        workers = replace(workers, invert_actors=(1, job.threads))
    return executor(workers, pictures, listener)


def _job_of(request: EditRequest, current: Current, listener: Listener) -> EditJob:
    inverted = current.settings
    if request.paste_back != "none" and not inverted.align:
        raise SpecError(
            f"the images of {request.out} were taken whole; there is nothing to paste a face into"
        )
    spec = request.model or spec_of(current.storage, inverted)
    model = identify(spec)
    if request.model is None and model.fingerprint != inverted.model_fingerprint:
        raise SpecError(
            f"{inverted.model} is not what it was when {current.storage.uri} was made; "
            "name another with --model to render with it nevertheless"
        )
    directions = [move.found(spec) for move in request.moves]
    settings = _settings(request, inverted.fingerprint, model, directions)
    for direction in directions:
        direction.styles(_latent_shape(current))
    _note_strangers(request.moves, directions, spec, listener)
    run = read_run(current.storage)
    return EditJob(
        inversion=absolute_uri(request.out),
        photographs=absolute_uri(run.asked.source) if run is not None else "",
        out=absolute_uri(request.to),
        model=absolute_spec(spec),
        dtype=inverted.dtype,
        settings=settings,
        directions=directions,
        device=choose(inverted.dtype, request.device, request.workers).device,
        threads=threads_here(),
        policy=UrlPolicy(request.allow_private_urls),
        stages=STAGES,
    )


def _settings(
    request: EditRequest, source: str, model: ModelIdentity, directions: Sequence[Direction]
) -> EditSettings:
    settings = EditSettings(
        source=source,
        model=model.name,
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


def _note_strangers(
    moves: Sequence[Move], directions: Sequence[Direction], spec: str, listener: Listener
) -> None:
    """Tell of directions from elsewhere that were found for another generator."""
    own = directions_of(spec)
    strangers = [
        direction
        for move, direction in zip(moves, directions, strict=True)
        if move.direction not in own and direction.about.generator is not None
    ]
    if not strangers:
        return
    # Here, because only their weights tell generators apart.
    from restyle.core.checkpoints.fingerprint import synthesis_fingerprint
    from restyle.core.inference.model import load_model

    generator = synthesis_fingerprint(load_model(spec, device="cpu").generator)
    for direction in strangers:
        if direction.about.generator != generator:
            listener.noted(
                f"direction {direction.name} was found for another generator; "
                "what it does to this one is to be seen"
            )


def _latent_shape(current: Current) -> tuple[int, int]:
    """Of the inversion's latents.

    Raises:
        SpecError: it has none.
    """
    for file in current.files(LATENTS):
        with open_parquet(current.out, file.name) as parquet:
            return latent_shape(parquet.schema_arrow)
    raise SpecError(f"{current.storage.uri} holds no face that was asked for")


def _digest(direction: Direction) -> str:
    digest = hashlib.sha256(repr(direction.about.scale).encode())
    digest.update(direction.vector.tobytes())
    return digest.hexdigest()
