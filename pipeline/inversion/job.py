"""What a run of inversion asks of its workers; imports neither Ray nor torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restyle.pipeline.execution.job import Job, StageSpec
from restyle.pipeline.ledger.settings import ResolvedSettings

if TYPE_CHECKING:
    from restyle.pipeline.decoding.sandbox import CropSettings

# Units in work at the same time in an inversion worker, so that their faces fill its batches.
_MOST_TOGETHER = 4
_USUAL_BATCH = 32

# Units in work at the same time in an alignment worker: its processes are to be busy while others
# are put into the store. Where only sizes change, that takes as long as the work.
_ALIGNED, _SQUASHED = 2, 4


@dataclass(frozen=True)
class InversionJob(Job):
    """What the workers need to know.

    Attributes:
        source: ``INPUT``.
        out: the output's URI.
        model: what ``load_model`` takes.
        settings: of the run.
        crop: how images become encoder input.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: faces per batch; None for what suits the model.
        threads: cores to use on this machine.
        bootstrap: the model that takes the first step, as ``load_model`` takes it; or None.
    """

    source: str
    out: str
    model: str
    settings: ResolvedSettings
    crop: CropSettings
    device: str
    batch_size: int | None
    threads: int
    bootstrap: str | None = None

    @property
    def fingerprint(self) -> str:
        """As of :class:`~restyle.pipeline.execution.job.Job`."""
        return self.settings.fingerprint

    def stages(self, images: float) -> tuple[StageSpec, ...]:
        """Alignment on CPU cores, then inversion, which also writes."""
        from restyle.pipeline.inversion.stages import AlignStage, InvertStage

        # Two batches full, one unit that is written, and one that comes.
        batch = self.batch_size or _USUAL_BATCH
        together = min(_MOST_TOGETHER, 2 + math.ceil(2 * batch / images))
        aligned = _ALIGNED if self.crop.align else _SQUASHED
        return (
            StageSpec("alignment", "align", AlignStage, aligned),
            StageSpec("inversion", "compute", InvertStage, together),
        )
