"""What a run of inversion asks of its workers; imports neither Ray nor torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from restyle.pipeline.execution.job import Job, StageSpec
from restyle.pipeline.ledger.settings import ResolvedSettings
from restyle.pipeline.sources.web.private_hosts import UrlPolicy

if TYPE_CHECKING:
    from restyle.pipeline.decoding.sandbox import CropSettings


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
        policy: where the addresses of inputs may lead.
        stages: alignment, then inversion.
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
    policy: UrlPolicy = field(default_factory=UrlPolicy)
    stages: tuple[StageSpec, ...] = ()

    @property
    def fingerprint(self) -> str:
        """As of :class:`~restyle.pipeline.execution.job.Job`."""
        return self.settings.fingerprint
