"""Job description for workers of an inversion; imports neither Ray nor torch."""

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
    """Parameters of the workers.

    Attributes:
        source: ``INPUT``.
        out: URI of the output.
        model: as for ``load_model``.
        settings: of the run.
        crop: settings of the crops.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: faces per batch; the model's default when None.
        threads: number of cores to use on this machine.
        bootstrap: model of the first step, as for ``load_model``; or None.
        identity_weights: file of the user's face recogniser; or None.
        policy: restrictions of the inputs' addresses.
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
    identity_weights: str | None = None
    policy: UrlPolicy = field(default_factory=UrlPolicy)
    stages: tuple[StageSpec, ...] = ()

    @property
    def fingerprint(self) -> str:
        """As of :class:`~restyle.pipeline.execution.job.Job`."""
        return self.settings.fingerprint
