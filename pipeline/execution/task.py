"""What one run of an operation does: a request, resolved against its output.

Every operation makes tasks; :func:`restyle.pipeline.execution.run.conduct` runs them and knows no
operation.
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
        operation: that the output is of.
        output: where the rows go.
        settings: what shapes the rows.
        earlier: the settings that stand in the output; None when it is new.
        device: that was asked for, ``auto`` included.
        workers: where the work is done.
        dtype: what is computed in.
        dtype_reason: the dtype and why.
        max_reject_rate: share of rejects at which the run stops.
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
        """The output is bound to these settings already."""
        return self.earlier == self.settings

    def bind(self) -> None:
        """Bind the output to the settings."""
        self.operation.write_settings(self.output.storage, self.settings)

    def is_outdated(self) -> bool:
        """Whether the output has other settings now than when the task was made."""
        return self.operation.read_settings(self.output.storage) != self.earlier

    @abstractmethod
    def plan(
        self, planned_inputs: PlannedInputs, listener: Listener, before_first: Callable[[], None]
    ) -> Planned:
        """Bring the manifest up to date. The driver's lock is held.

        Args:
            planned_inputs: what is planned already; what is added is added here too.
            listener: is told how many inputs were found.
            before_first: is called once, before anything is written.
        """

    @abstractmethod
    def job(self, device: str, images: float) -> Job:
        """What the workers are told.

        Args:
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            images: mean number of images in a unit.
        """

    @abstractmethod
    def title(self) -> str:
        """What is done by which model, in a few words."""

    @abstractmethod
    def asked(self) -> Asked:
        """The command, as far as it does not shape the rows."""

    @abstractmethod
    def described(self) -> Described:
        """What ``run.json`` tells of the operation itself."""

    def pictures(self, images: int) -> int:
        """Pictures that are made of so many images."""
        return images
