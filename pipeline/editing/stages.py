"""The one stage of editing: reads the faces of units, edits them and writes."""

from __future__ import annotations

from restyle.core.errors import TransientError
from restyle.pipeline.editing.job import EditJob
from restyle.pipeline.execution.job import StageSpec, Stepped
from restyle.pipeline.execution.stages import Computation, ComputeStage
from restyle.pipeline.ledger.attempts import MAX_TRIES
from restyle.pipeline.ledger.commit import EncodedUnit
from restyle.pipeline.ledger.manifest import UnitRef

# One unit is computed while another is read or written.
_TOGETHER = 2


class EditStage(ComputeStage[EditJob, UnitRef]):
    """Reads the faces of units and edits them."""

    def _started(self, threads: int, stepped: Stepped) -> Computation[UnitRef]:
        # Here, because only this process may pay for torch.
        from restyle.pipeline.editing.unit_editor import UnitEditor

        return UnitEditor(self._job, threads, stepped)

    def _name_of(self, unit: UnitRef) -> str:
        return unit.name

    def _given_up(self, unit: UnitRef) -> EncodedUnit:
        # Nothing is wrong with faces that were inverted: it is to be tried again by another run.
        self._attempts.end(unit.name)
        raise TransientError(
            f"editing the {unit.images} photographs of a unit ended the worker {MAX_TRIES} times, "
            "perhaps for want of memory"
        )


STAGES = (StageSpec("editing", "compute", EditStage, _TOGETHER),)
