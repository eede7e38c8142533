"""What a run of edits asks of its workers; imports neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from restyle.core.editing.directions import Direction
from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.execution.job import Job, StageSpec
from restyle.pipeline.sources.web.private_hosts import UrlPolicy


@dataclass(frozen=True, eq=False)
class EditJob(Job):
    """What the workers need to know.

    Attributes:
        inversion: the URI of the output whose faces are edited.
        photographs: what that was made from; where faces are put back into it.
        out: the URI of the edits.
        model: what ``load_model`` takes.
        dtype: of the model's activations.
        settings: of the edits.
        directions: those that the settings describe. They travel with the job, so that their files
            need not be where the workers are.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: cores to use on this machine.
        policy: where the addresses of photographs may lead.
        stages: editing alone.
    """

    inversion: str
    photographs: str
    out: str
    model: str
    dtype: str
    settings: EditSettings
    directions: Sequence[Direction]
    device: str
    threads: int
    policy: UrlPolicy = field(default_factory=UrlPolicy)
    stages: tuple[StageSpec, ...] = ()

    @property
    def fingerprint(self) -> str:
        """As of :class:`~restyle.pipeline.execution.job.Job`."""
        return self.settings.fingerprint
