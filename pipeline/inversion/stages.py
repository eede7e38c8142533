"""The stages of inversion: alignment from photographs to crops, inversion from crops to rows."""

from __future__ import annotations

import math

from restyle.core.devices.allocator import keep_freed_memory
from restyle.core.shown_text import plural
from restyle.pipeline.execution.job import StageSpec, Stepped, UnitResult, failure
from restyle.pipeline.execution.stages import Computation, ComputeStage
from restyle.pipeline.inversion.aligner import AlignedUnit, Aligner
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.inversion.rows import given_up
from restyle.pipeline.ledger.attempts import MAX_TRIES
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.manifest import PlanReader, UnitRef
from restyle.pipeline.storage.filesystem import open_storage

# Units in work at the same time in an inversion worker, so that they fill its batches.
_MOST_TOGETHER = 4
_USUAL_BATCH = 32

# Units in work at the same time in an alignment worker, so that its processes are busy while other
# units are put into the object store, which takes as long as resizing images.
_ALIGNED, _RESIZED = 2, 4


def stages_of(align: bool, batch_size: int | None, images: float) -> tuple[StageSpec, ...]:
    """Alignment on CPU cores, then inversion, which also writes.

    Args:
        align: whether faces are detected and aligned.
        batch_size: faces per batch; the model's default when None.
        images: mean number of images in a unit.
    """
    # Units for two full batches, one that is being written, and one that arrives.
    together = min(_MOST_TOGETHER, 2 + math.ceil(2 * (batch_size or _USUAL_BATCH) / images))
    return (
        StageSpec("alignment", "align", AlignStage, _ALIGNED if align else _RESIZED),
        StageSpec("inversion", "compute", InvertStage, together),
    )


class AlignStage:
    """Reads a unit of the manifest and aligns it.

    Args:
        job: of the run.
        threads: number of child processes, each with one image in work; 1 when None.
    """

    def __init__(
        self,
        job: InversionJob,
        threads: int | None = None,
        _stepped: Stepped | None = None,
    ) -> None:
        keep_freed_memory()
        self._aligner = Aligner(job.source, job.crop, threads or 1, job.policy)
        self._plans = PlanReader(open_storage(job.out))

    def __call__(self, ref: UnitRef) -> AlignedUnit | UnitResult:
        """The unit, or a result that says why it failed."""
        try:
            return self._aligner(self._plans.read(ref))
        except Exception as error:
            return failure(ref.name, error)

    def close(self) -> None:
        """End its processes."""
        self._aligner.close()


class InvertStage(ComputeStage[InversionJob, AlignedUnit]):
    """Inverts aligned units."""

    def _started(self, threads: int, stepped: Stepped) -> Computation[AlignedUnit]:
        # Imported late, because only the workers need torch.
        from restyle.pipeline.inversion.inverter import Inverter

        job = self._job
        return Inverter(
            job.model,
            job.settings,
            device=job.device,
            batch_size=job.batch_size,
            threads=threads,
            computed=stepped,
            bootstrap=job.bootstrap,
            identity_weights=job.identity_weights,
        )

    def _name_of(self, unit: AlignedUnit) -> str:
        return unit.unit

    def _given_up(self, unit: AlignedUnit) -> EncodedUnit:
        message = (
            f"inverting its unit of {plural(unit.images, 'input')} ended the worker "
            f"{MAX_TRIES} times"
        )
        return given_up(unit, self._job.settings, message)
