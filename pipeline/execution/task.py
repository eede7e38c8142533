"""Task: a request for one run of an operation, resolved against its output.

Each operation implements the protocol below; :func:`restyle.pipeline.execution.run.conduct` runs
the tasks of every operation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from restyle.core.devices.precision import Precision
from restyle.pipeline.accounting.operation import Operation
from restyle.pipeline.accounting.run_record import Asked, Described
from restyle.pipeline.execution.job import Job
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.ledger.output import Output
from restyle.pipeline.ledger.settings import Settings
from restyle.pipeline.listener import Listener
from restyle.pipeline.planning.planned_inputs import PlannedInputs
from restyle.pipeline.planning.planner import Planned


class Task(ABC):
    """One run of an operation.

    Attributes:
        operation: Operation of the output.
        output: Output that receives the rows.
        settings: Settings that determine the rows.
        earlier: Settings stored in the output; None if the output is new.
        device: Requested device, possibly ``auto``.
        workers: Executor, cluster and numbers of actors.
        dtype: Precision of the computation.
        dtype_reason: The precision and the reason for it, as text.
        max_reject_rate: Share of rejected inputs, 0 to 1, above which the run stops.
    """

    operation: ClassVar[Operation[Any]]

    output: Output
    settings: Settings
    earlier: Settings | None
    device: str
    workers: Workers
    dtype: Precision
    dtype_reason: str
    max_reject_rate: float = 1.0

    @property
    def is_begun(self) -> bool:
        """Whether the output already has these settings."""
        return self.earlier == self.settings

    def bind(self) -> None:
        """Write the settings to the output."""
        self.operation.write_settings(self.output.storage, self.settings)

    def is_outdated(self) -> bool:
        """Whether the output's settings have changed since the task was created."""
        return self.operation.read_settings(self.output.storage) != self.earlier

    @abstractmethod
    def plan(
        self, planned_inputs: PlannedInputs, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        """Update the manifest. The caller must hold the driver's lock.

        Args:
            planned_inputs: index of the manifest; updated with the added inputs.
            listener: receives notes and the number of inputs found.
            before_first: called once, before the first plan file is written.
        """

    @abstractmethod
    def job(self, device: str, images: float) -> Job:
        """Return the job for the workers.

        Args:
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            images: mean number of images in a unit.
        """

    @abstractmethod
    def title(self) -> str:
        """Return a short phrase for messages that names the model and the work."""

    @abstractmethod
    def asked(self) -> Asked:
        """Return the options of the command that do not affect the rows."""

    @abstractmethod
    def described(self) -> Described:
        """Return the fields of ``run.json`` that depend on the operation."""

    def withdraw(self) -> None:  # noqa: B027 (most leave nothing elsewhere)
        """Take back what planning wrote outside of the output, of which nothing is left."""

    def pictures(self, images: int) -> int:
        """Return the number of images generated from ``images`` inputs."""
        return images
