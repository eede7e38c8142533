"""``retry-rejects``: plan rejected inputs again, and run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from restyle.core.errors import FatalError, RejectReason, SpecError
from restyle.core.shown_text import are, plural
from restyle.pipeline.accounting.run_record import RunRecord, read_run
from restyle.pipeline.accounting.status import settings_of
from restyle.pipeline.execution.executor import Engine
from restyle.pipeline.execution.request import Outcome, Request, Workers
from restyle.pipeline.execution.run import conduct
from restyle.pipeline.inversion.task import InversionTask
from restyle.pipeline.ledger.datasets import REJECTS
from restyle.pipeline.ledger.manifest import Origin, images_of, read_plans
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.parquet_files import parquet_of
from restyle.pipeline.ledger.part_names import dataset_of
from restyle.pipeline.ledger.settings import InversionSettings, ResolvedSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.monitoring.monitor import Monitoring
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned, Planner
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import open_storage

TRANSIENT = (RejectReason.UNREADABLE, RejectReason.TIMED_OUT, RejectReason.CRASHED)
"""Reasons that may be temporary and not caused by the input."""

MAX_UNIT = 32
"""Maximum number of inputs in a retried unit; small, because one of them may crash the unit."""

_READ_AT_ONCE = 16


@dataclass(frozen=True)
class Retry:
    """The user's request.

    Attributes:
        out: path or any fsspec URI of the output.
        reasons: reject reasons that are retried.
        model: model as in :class:`InversionSettings`; None for that of the last run.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: faces per batch; None selects it by model.
        max_reject_rate: share of rejected inputs above which the run stops.
        workers: placement of the workers.
        allow_private_urls: whether addresses of inputs may lead to this machine and its private
            networks; not taken from the output, which may come from an untrusted source.
        monitoring: how the run is watched.
    """

    out: str
    reasons: tuple[RejectReason, ...] = TRANSIENT
    model: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    max_reject_rate: float = 1.0
    workers: Workers = field(default_factory=Workers)
    allow_private_urls: bool = False
    monitoring: Monitoring = field(default_factory=Monitoring)


def retry_rejects(
    retry: Retry, listener: Listener | None = None, engine: Engine | None = None
) -> Outcome:
    """Run rejected inputs again, each as a new revision, together with all other pending units.

    An input keeps its reject until its new revision is finished, whose result then replaces it.

    Args:
        retry: the request.
        listener: receiver of progress events.
        engine: as in :func:`restyle.pipeline.inversion.run.invert_images`.

    Raises:
        SpecError: there is no output, or its model cannot be found.
        FatalError: as in :func:`restyle.pipeline.inversion.run.invert_images`.
        Interrupted: the user pressed Ctrl-C.
    """
    return conduct(
        lambda: _RetryTask.again(retry), listener or Listener(), engine, retry.monitoring, retry.out
    )


@dataclass(frozen=True)
class _RetryTask(InversionTask):
    """An inversion that plans rejected inputs instead of listing an input."""

    command = "retry-rejects"

    reasons: tuple[RejectReason, ...] = ()

    @classmethod
    def again(cls, retry: Retry) -> _RetryTask:
        return replace(cls.of(_request(retry)), reasons=retry.reasons)

    def plan(
        self, planned_inputs: PlannedInputs, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        most = min(MAX_UNIT, self.most_in_unit)
        return plan_again(self.reasons, self.output, planned_inputs, listener, before_first, most)


def plan_again(
    reasons: Sequence[RejectReason],
    output: Output,
    planned_inputs: PlannedInputs,
    listener: Listener,
    before_first: Callable[[], None] = lambda: None,
    most: int = MAX_UNIT,
) -> Planned:
    """Plan the current rejects with the given reasons. The caller must hold the driver's lock.

    Raises:
        FatalError: the manifest or the rejects are damaged.
    """
    rejected = _standing(output, reasons, planned_inputs)
    faults = 0

    def batches() -> Iterator[list[SourceImage]]:
        nonlocal faults
        for images in _inputs(output, rejected):
            # The manifest records these faults, so a retry would find the same ones.
            sound = [image for image in images if not image.fault]
            faults += len(images) - len(sound)
            yield [replace(image, revision=image.revision + 1) for image in sound]

    planner = Planner(planned_inputs, Origin(), listener, before_first)
    planned = planner.plan_again(batches(), most)
    again = f"{plural(planned.new, 'rejected input')} {are(planned.new)} tried again"
    listener.noted(f"{again} (reasons: {', '.join(reasons)})")
    if faults:
        listener.noted(
            f"still rejected: {plural(faults, 'input')} found faulty when planned; "
            "correct the files that hold them, and restyle invert plans them again"
        )
    return planned


def _request(retry: Retry) -> Request:
    storage = open_storage(retry.out)
    settings, last = settings_of(storage), read_run(storage)
    model = retry.model
    if model is None:
        spec = last.model.get("spec") if last is not None else None
        model = spec if isinstance(spec, str) else settings.model
    return Request(
        # Only for the connection to its store; the inputs come from the manifest.
        source=last.asked.source if last is not None else "",
        out=retry.out,
        settings=_as_asked(settings, model, _bootstrap(settings, last)).model_copy(
            update={"identity_weights": _identity_weights(last)}
        ),
        device=retry.device,
        batch_size=retry.batch_size,
        max_reject_rate=retry.max_reject_rate,
        input=InputOptions(allow_private_urls=retry.allow_private_urls),
        workers=retry.workers,
        source_is_recorded=True,
    )


def _bootstrap(settings: ResolvedSettings, last: RunRecord | None) -> str | None:
    """Return the first step's model as the last run specified it."""
    spec = last.model.get("bootstrap") if last is not None else None
    return spec if isinstance(spec, str) else settings.bootstrap


def _identity_weights(last: RunRecord | None) -> str | None:
    """Return the face recogniser's file as the last run specified it."""
    path = last.model.get("identity_weights") if last is not None else None
    return path if isinstance(path, str) else None


def _as_asked(settings: ResolvedSettings, model: str, bootstrap: str | None) -> InversionSettings:
    return InversionSettings(
        model=model,
        steps=settings.steps or None,
        align=settings.align,
        faces=settings.faces,
        detector=settings.detector,
        save_steps=settings.save_steps,
        reconstructions=settings.reconstructions,
        image_format=settings.image_format or "png",
        metrics=settings.metrics,
        dtype=settings.dtype,
        tolerance=settings.tolerance,
        bootstrap=bootstrap,
        polish=settings.polish or 0,
        start=settings.start,
        iterations=settings.iterations,
        target_loss=settings.target_loss,
        pivotal=settings.pivotal or 0,
        seed=settings.seed,
        noise=settings.noise or 0.0,
        best_step=settings.best_step,
    )


def _standing(
    output: Output, reasons: Sequence[RejectReason], planned_inputs: PlannedInputs
) -> dict[str, int]:
    """Return ids and revisions of the current rejects with these reasons, not planned again yet."""
    wanted = pa.array([str(reason) for reason in reasons], pa.string())
    storage, files = output.storage, (file for each in output.sets() for file in each.files)
    names = [file.name for file in files if dataset_of(file.name) == REJECTS]
    found: dict[str, int] = {}
    for start in range(0, len(names), _READ_AT_ONCE):
        some = names[start : start + _READ_AT_ONCE]
        for name, data in zip(some, storage.read_many(some), strict=True):
            try:
                columns = ["image_id", "revision", "reason"]
                table = parquet_of(data).read(columns, use_threads=False)
            except (KeyError, pa.ArrowException, OSError) as error:
                raise FatalError(f"{storage.shown(name)} is damaged; {DAMAGE}") from error
            rows = table.filter(pc.is_in(table.column("reason"), wanted)).to_pylist()
            found |= {
                row["image_id"]: row["revision"]
                for row in rows
                if planned_inputs.revision(row["image_id"]) == row["revision"]
            }
    return found


def _inputs(output: Output, wanted: dict[str, int]) -> Iterator[list[SourceImage]]:
    """Yield these inputs from the manifest, unit by unit, for committed units only."""
    if not wanted:
        return
    storage, done, ids = output.storage, output.entries.units, pa.array(wanted, pa.string())
    # A copy, because plans are added to the manifest during the iteration.
    for file in read_plans(storage, list(output.manifest.plans)):
        rows = file.parquet.read(columns=["unit", "image_id"], use_threads=False)
        hits = set(rows.filter(pc.is_in(rows.column("image_id"), ids)).column("unit").to_pylist())
        for unit in file.units:
            if unit.name in hits and unit.name in done:
                yield [
                    image
                    for image in images_of(storage, file, unit.group)
                    if wanted.get(image.image_id) == image.revision
                ]


def reasons_named(names: Sequence[str]) -> tuple[RejectReason, ...]:
    """Return reasons by name.

    Args:
        names: values of the column ``reason``; ``all`` selects every reason; an empty sequence
            selects :data:`TRANSIENT`.

    Raises:
        SpecError: a name is no reason.
    """
    if "all" in names:
        return tuple(RejectReason)
    unknown = sorted(set(names) - set(RejectReason))
    if unknown:
        raise SpecError(
            f"no reject has the reason {', '.join(unknown)}; there are {', '.join(RejectReason)}"
        )
    return tuple(RejectReason(name) for name in dict.fromkeys(names)) or TRANSIENT
