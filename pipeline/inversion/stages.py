"""The stages of inversion: photographs of a unit become crops, and crops become rows."""

from __future__ import annotations

from restyle.core.devices.allocator import keep_freed_memory
from restyle.pipeline.execution.job import Receipt, Stepped, failure
from restyle.pipeline.execution.stages import Computation, ComputeStage
from restyle.pipeline.inversion.aligner import AlignedUnit, Aligner
from restyle.pipeline.inversion.job import InversionJob
from restyle.pipeline.inversion.unit_files import given_up
from restyle.pipeline.ledger.attempts import MAX_TRIES
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.manifest import PlanReader, UnitRef
from restyle.pipeline.storage.filesystem import open_storage


class AlignStage:
    """Reads a unit of the manifest and aligns it.

    Args:
        job: of the run.
        threads: images in work at the same time, each in a process of its own; 1 when None.
    """

    def __init__(
        self,
        job: InversionJob,
        threads: int | None = None,
        _stepped: Stepped | None = None,
    ) -> None:
        keep_freed_memory()
        self._aligner = Aligner(job.source, job.crop, threads or 1)
        self._plans = PlanReader(open_storage(job.out))

    def __call__(self, ref: UnitRef) -> AlignedUnit | Receipt:
        """The unit, or a receipt that says why it failed."""
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
        # Here, because only this process may pay for torch.
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
        )

    def _name_of(self, unit: AlignedUnit) -> str:
        return unit.unit

    def _given_up(self, unit: AlignedUnit) -> EncodedUnit:
        message = (
            f"inverting the {unit.images} inputs of its unit ended the worker {MAX_TRIES} times"
        )
        return given_up(unit, self._job.settings, message)
