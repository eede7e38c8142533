"""``retry-rejects``: inputs that were rejected are planned again, and run like any others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from restyle.core.errors import FatalError, RejectReason, SpecError
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
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned, Planner
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage
from restyle.pipeline.storage.errors import DAMAGE
from restyle.pipeline.storage.filesystem import open_storage

TRANSIENT = (RejectReason.UNREADABLE, RejectReason.TIMED_OUT, RejectReason.CRASHED)
"""Reasons that need not be the input's fault, and may be gone when it is tried again."""

MAX_UNIT = 32
"""Most inputs in a unit here: small, because one of them may be what made its unit crash."""

_READ_AT_ONCE = 16


@dataclass(frozen=True)
class Retry:
    """What the user asked for.

    Attributes:
        out: the output, a path or any fsspec URI.
        reasons: of the rejects that are tried again.
        model: as in :class:`InversionSettings`; None for where the last run found it.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: faces per batch; None for what suits the model.
        max_reject_rate: stop once more than this share of the inputs is rejected again.
        workers: where the work is done.
        allow_private_urls: addresses of inputs may lead to this machine and its network; not taken
            from the output, which may be a stranger's.
    """

    out: str
    reasons: tuple[RejectReason, ...] = TRANSIENT
    model: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    max_reject_rate: float = 1.0
    workers: Workers = field(default_factory=Workers)
    allow_private_urls: bool = False


def retry_rejects(
    retry: Retry, listener: Listener | None = None, engine: Engine | None = None
) -> Outcome:
    """Run rejected inputs once more, each as a new revision, and whatever else is pending.

    An input keeps its reject until its new revision is done, and then has what came of that.

    Args:
        retry: what is tried again.
        listener: is told about progress.
        engine: as in :func:`restyle.pipeline.inversion.run.invert_images`.

    Raises:
        SpecError: there is no output, or its model cannot be found.
        FatalError: as in :func:`restyle.pipeline.inversion.run.invert_images`.
        Interrupted: Ctrl-C.
    """
    return conduct(lambda: _RetryTask.again(retry), listener or Listener(), engine)


@dataclass(frozen=True)
class _RetryTask(InversionTask):
    """An inversion that plans what was rejected instead of what an input lists."""

    command = "retry-rejects"

    reasons: tuple[RejectReason, ...] = ()

    @classmethod
    def again(cls, retry: Retry) -> _RetryTask:
        return replace(cls.of(_request(retry)), reasons=retry.reasons)

    def plan(
        self, planned_inputs: PlannedInputs, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        return plan_again(self.reasons, self.output, planned_inputs, listener, before_first)


def plan_again(
    reasons: Sequence[RejectReason],
    output: Output,
    planned_inputs: PlannedInputs,
    listener: Listener,
    before_first: Callable[[], None] = lambda: None,
) -> Planned:
    """Plan the rejects of these reasons that stand now. The driver's lock must be held.

    Raises:
        FatalError: manifest or rejects are damaged.
    """
    rejected = _standing(output, reasons, planned_inputs)
    faults = 0

    def batches() -> Iterator[list[SourceImage]]:
        nonlocal faults
        for images in _inputs(output, rejected):
            # The same fault would be found again: it stands in the manifest.
            sound = [image for image in images if not image.fault]
            faults += len(images) - len(sound)
            yield [replace(image, revision=image.revision + 1) for image in sound]

    planner = Planner(planned_inputs, Origin(), listener, before_first)
    planned = planner.plan_again(batches(), MAX_UNIT)
    names = ", ".join(reasons)
    listener.noted(f"{planned.new} rejected inputs are tried again (reasons: {names})")
    if faults:
        listener.noted(
            f"{faults} were found faulty when they were planned and stay rejected; "
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
        # For the connection to its store alone; the inputs come from the manifest.
        source=last.asked.source if last is not None else "",
        out=retry.out,
        settings=_as_asked(settings, model, _bootstrap(settings, last)),
        device=retry.device,
        batch_size=retry.batch_size,
        max_reject_rate=retry.max_reject_rate,
        input=InputOptions(allow_private_urls=retry.allow_private_urls),
        workers=retry.workers,
        source_is_recorded=True,
    )


def _bootstrap(settings: ResolvedSettings, last: RunRecord | None) -> str | None:
    """Where the last run found the model of the first step."""
    spec = last.model.get("bootstrap") if last is not None else None
    return spec if isinstance(spec, str) else settings.bootstrap


def _as_asked(settings: ResolvedSettings, model: str, bootstrap: str | None) -> InversionSettings:
    return InversionSettings(
        model=model,
        steps=settings.steps,
        align=settings.align,
        faces=settings.faces,
        save_steps=settings.save_steps,
        reconstructions=settings.reconstructions,
        metrics=settings.metrics,
        dtype=settings.dtype,
        tolerance=settings.tolerance,
        bootstrap=bootstrap,
    )


def _standing(
    output: Output, reasons: Sequence[RejectReason], planned_inputs: PlannedInputs
) -> dict[str, int]:
    """Ids and revisions of the rejects of these reasons that were not planned again yet."""
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
    """These inputs as they stand in the manifest, unit by unit, of committed units alone."""
    if not wanted:
        return
    storage, done, ids = output.storage, output.entries.units, pa.array(wanted, pa.string())
    # A copy, because what is planned again is added while this goes on.
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
    """Reasons by name.

    Args:
        names: as in the column ``reason``; ``all`` stands for every one; the transient ones
            when empty.

    Raises:
        SpecError: there is no such reason.
    """
    if "all" in names:
        return tuple(RejectReason)
    unknown = sorted(set(names) - set(RejectReason))
    if unknown:
        raise SpecError(
            f"no reject has the reason {', '.join(unknown)}; there are {', '.join(RejectReason)}"
        )
    return tuple(RejectReason(name) for name in dict.fromkeys(names)) or TRANSIENT
