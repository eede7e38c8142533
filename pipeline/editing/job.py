"""Job description for workers of an edit run; imports neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from restyle.core.editing.directions import Direction
from restyle.pipeline.editing.settings import EditSettings
from restyle.pipeline.execution.job import Job, StageSpec
from restyle.pipeline.sources.web.private_hosts import UrlPolicy


@dataclass(frozen=True, eq=False)
class EditJob(Job):
    """Parameters of the workers.

    Attributes:
        inversion: URI of the inversion whose faces are edited.
        photographs: URI of the inversion's input, for pasting faces back.
        out: URI of the output.
        model: as for ``load_model``.
        dtype: of the model's activations.
        settings: of the edits.
        directions: the directions of the settings. They are part of the job, because workers may
            have no access to their files.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: number of cores to use on this machine.
        has_generators: whether the inversion tuned a generator for each face.
        policy: restrictions of the photographs' addresses.
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
    has_generators: bool = False
    policy: UrlPolicy = field(default_factory=UrlPolicy)
    stages: tuple[StageSpec, ...] = ()

    @property
    def fingerprint(self) -> str:
        """As of :class:`~restyle.pipeline.execution.job.Job`."""
        return self.settings.fingerprint
