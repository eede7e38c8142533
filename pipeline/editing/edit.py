"""``restyle edit``: edit the latents of a finished inversion into a dataset.

An output of edits has a manifest, a ledger and atomically written files, like that of an inversion:
running the same command again completes pending units and adds new faces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from restyle.core.devices.precision import Precision
from restyle.core.editing.attributes import SCORERS
from restyle.core.editing.directions import Direction
from restyle.core.errors import SpecError
from restyle.core.networks.config import absolute_spec
from restyle.pipeline.accounting.operation import own_settings
from restyle.pipeline.accounting.run_record import Asked, Described, read_run, spec_of
from restyle.pipeline.editing.job import EditJob
from restyle.pipeline.editing.operation import EDITING
from restyle.pipeline.editing.plan import EditPlanner, faces_together
from restyle.pipeline.editing.request import EditOutcome, EditRequest, find_directions
from restyle.pipeline.editing.settings import EditedDirection, EditSettings, check_same, digest
from restyle.pipeline.editing.stages import STAGES
from restyle.pipeline.editing.summary import summarise
from restyle.pipeline.execution.executor import Engine
from restyle.pipeline.execution.placement import threads_here
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.run import conduct
from restyle.pipeline.execution.task import Task
from restyle.pipeline.forgetting.derived import Derived, record_derived, withdraw_derived
from restyle.pipeline.forgetting.tombstone import check_complete
from restyle.pipeline.inversion.model_identity import ModelIdentity, identify
from restyle.pipeline.ledger.datasets import LATENTS, latent_shape
from restyle.pipeline.ledger.manifest import plans_among
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import open_parquet
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned
from restyle.pipeline.results.snapshot import Snapshot, read_snapshot
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from restyle.pipeline.storage.addresses import absolute_uri
from restyle.pipeline.storage.filesystem import shown_uri


def edit(
    request: EditRequest, listener: Listener | None = None, engine: Engine | None = None
) -> EditOutcome:
    """Edit all pending and new faces.

    Args:
        request: the job.
        listener: receiver of progress events.
        engine: factory of the engine that runs units; None to choose one by ``request.workers`` and
            the number of pictures.

    Raises:
        SpecError: the inversion or a direction does not exist, or the output was made with other
            settings.
        FatalError: a file is damaged, or the output cannot be written.
        Interrupted: the user pressed Ctrl-C; finished units are kept.
    """
    listener = listener or Listener()
    tasks: list[EditTask] = []

    def prepare() -> EditTask:
        tasks.append(EditTask.of(request, listener))
        return tasks[-1]

    outcome = conduct(prepare, listener, engine, request.monitoring, request.to)
    settings, done = tasks[-1].settings, tasks[-1].output.records()
    return EditOutcome(
        outcome.images, settings, summarise(done, settings), outcome.seconds, outcome.report
    )


@dataclass(frozen=True, eq=False)
class EditTask(Task):
    """A validated request to edit faces.

    Attributes:
        request: the user's request.
        snapshot: the inversion whose faces are edited.
        output: output of the edits.
        model: identity of the model that renders.
        spec: the same model, in the form that ``load_model`` takes.
        directions: directions that the settings describe.
        settings: settings that determine the rows.
        earlier: settings recorded in the output; None if it is new.
        device: requested device.
        workers: placement of the workers.
        dtype: dtype of the model's activations.
        dtype_reason: the dtype and the reason for it.
    """

    operation = EDITING

    request: EditRequest
    snapshot: Snapshot
    output: Output
    model: ModelIdentity
    spec: str
    directions: Sequence[Direction]
    settings: EditSettings
    earlier: EditSettings | None
    device: str
    workers: Workers
    dtype: Precision
    dtype_reason: str

    @classmethod
    def of(cls, request: EditRequest, listener: Listener) -> Self:
        """Validate a request before anything is written.

        Raises:
            SpecError: the inversion or a direction does not exist, or the output was made with
                other settings.
            FatalError: a file is damaged, or the output cannot be written.
        """
        snapshot = read_snapshot(request.out)
        inverted = snapshot.settings
        if request.paste_back != "none" and not inverted.align:
            raise SpecError(
                f"the images of {request.out} were taken whole; there is nothing to paste a face "
                "into"
            )
        spec = request.model or spec_of(snapshot.storage, inverted.model)
        model = identify(spec)
        if request.model is None and model.fingerprint != inverted.model_fingerprint:
            raise SpecError(
                f"{inverted.model} is not what it was when {snapshot.storage.uri} was made; "
                "name another with --model to render with it nevertheless"
            )
        if inverted.pivotal is not None and model.fingerprint != inverted.model_fingerprint:
            raise SpecError(
                f"the faces of {snapshot.storage.uri} have generators of their own, which were "
                f"tuned from {inverted.model}; leave --model out"
            )
        output = Output.at(request.to)
        earlier = _recorded(output)
        directions = find_directions(request.moves, spec, earlier, listener)
        settings = _settings(request, inverted.fingerprint, model, directions)
        for direction in directions:
            direction.styles(_latent_shape(snapshot))
        _check_output(output, settings, earlier)
        return cls(
            request=request,
            snapshot=snapshot,
            output=output,
            model=model,
            spec=spec,
            directions=directions,
            settings=settings,
            earlier=earlier,
            device=request.device,
            workers=request.workers,
            dtype=inverted.dtype,
            dtype_reason=f"{inverted.dtype}: as the faces were inverted",
        )

    def plan(
        self, planned_inputs: PlannedInputs, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        """Plan the current faces of the inversion that no plan of the edits contains."""
        n_styles, _ = _latent_shape(self.snapshot)
        most = faces_together(n_styles, len(self.settings.combinations))

        def first() -> None:
            before_first()
            # Before the first plan, so that forgetting a photograph finds its edits.
            note = record_derived(self.snapshot.storage, self._derived)
            if note:
                listener.noted(note)

        check_complete(self.snapshot.storage, self.snapshot.output.names)
        planner = EditPlanner(self.snapshot, planned_inputs, most, first)
        planned = planner.plan(self.request.selection)
        if not planned.listed:
            raise SpecError(f"{self.snapshot.storage.uri} holds no face that was asked for")
        return planned

    @property
    def _derived(self) -> Derived:
        return Derived(kind="edits", address=self.output.address)

    def withdraw(self) -> None:
        """Remove the record that the inversion has of these edits."""
        withdraw_derived(self.snapshot.storage, self._derived)

    def job(self, device: str, images: float) -> EditJob:
        """Return the job description for the workers."""
        run = read_run(self.snapshot.storage)
        return EditJob(
            inversion=self.snapshot.out,
            photographs=absolute_uri(run.asked.source) if run is not None else "",
            out=self.output.address,
            model=absolute_spec(self.spec),
            dtype=self.dtype,
            settings=self.settings,
            directions=self.directions,
            device=device,
            threads=threads_here(),
            has_generators=self.snapshot.settings.pivotal is not None,
            policy=UrlPolicy(self.request.allow_private_urls),
            stages=STAGES,
        )

    def pictures(self, images: int) -> int:
        """Return the number of pictures: one per photograph and edit."""
        return images * len(self.settings.combinations)

    def title(self) -> str:
        """Return the names of the model and the directions."""
        return f"{self.model.name}, {', '.join(each.name for each in self.settings.directions)}"

    def asked(self) -> Asked:
        """Return the request as recorded: without user names, passwords and signatures."""
        return Asked(
            source=shown_uri(self.request.out),
            out=shown_uri(self.request.to),
            limit=self.request.selection.limit,
            device=self.request.device,
            batch_size=None,
            max_reject_rate=self.max_reject_rate,
            command="edit",
            **self.workers.recorded(),
        )

    def described(self) -> Described:
        """Return the description of the model and the metrics."""
        return Described(
            operation=EDITING.name,
            model=self.model.described(self.spec),
            metrics=("id_similarity", *self.settings.attributes),
        )


def _recorded(output: Output) -> EditSettings | None:
    """Return the settings recorded in the output; None if it is new."""
    earlier = own_settings(output.storage, EDITING, "--out")
    if earlier is None and plans_among(output.names):
        raise SpecError(f"{output.storage.uri} holds an inversion; choose another --out")
    return earlier


def _check_output(output: Output, settings: EditSettings, earlier: EditSettings | None) -> None:
    """Check that the output is writable and holds edits of these settings alone."""
    storage = output.storage
    storage.check_writable()
    if earlier not in (None, settings) and (
        output.entries.units or any(map(storage.sizes, EDITING.datasets))
    ):
        check_same(storage, settings, earlier)


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
                sha256=digest(direction),
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


def _latent_shape(snapshot: Snapshot) -> tuple[int, int]:
    """Return the shape of the inversion's latents, (n_styles, style_dim).

    Raises:
        SpecError: the inversion has no latents.
    """
    for file in snapshot.files(LATENTS):
        with open_parquet(snapshot.out, file.name) as parquet:
            return latent_shape(parquet.schema_arrow)
    raise SpecError(f"{snapshot.storage.uri} holds no face that was asked for")
