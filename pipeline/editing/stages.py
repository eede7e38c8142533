"""The stage of editing: reads the faces of units, edits them and writes the results."""

from __future__ import annotations

from restyle.core.errors import RejectReason
from restyle.core.shown_text import plural
from restyle.pipeline.editing.job import EditJob
from restyle.pipeline.execution.job import StageSpec, Stepped
from restyle.pipeline.execution.stages import Computation, ComputeStage
from restyle.pipeline.ledger.attempts import MAX_TRIES
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.manifest import PlanReader, UnitRef
from restyle.pipeline.ledger.rejects import rejected_unit

# Two units, so that one is computed while the other is read or written.
_TOGETHER = 2


class EditStage(ComputeStage[EditJob, UnitRef]):
    """Reads the faces of units and edits them."""

    def _started(self, threads: int, stepped: Stepped) -> Computation[UnitRef]:
        # Imported late, because only the workers need torch.
        from restyle.pipeline.editing.unit_editor import UnitEditor

        return UnitEditor(self._job, threads, stepped)

    def _name_of(self, unit: UnitRef) -> str:
        return unit.name

    def _given_up(self, unit: UnitRef) -> EncodedUnit:
        message = (
            f"editing its unit of {plural(unit.images, 'photograph')} ended the worker "
            f"{MAX_TRIES} times"
        )
        planned = PlanReader(self._storage).read(unit)
        fingerprint = self._job.settings.fingerprint
        return rejected_unit(planned, "edit", RejectReason.CRASHED, message, fingerprint)


# Landmark detection uses one core per process.
STAGES = (StageSpec("editing", "compute", EditStage, _TOGETHER, is_serial=True),)
