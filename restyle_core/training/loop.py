"""The loop that all trainings share: steps, and what is written between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from restyle_core.training.journal import Journal, crossed
from restyle_core.training.spec import Schedule


class Trainable(Protocol):
    """What the loop needs to know of a trainer."""

    journal: Journal
    step: int

    @property
    def schedule(self) -> Schedule:
        """How long the run is and what it writes."""

    def train_step(self) -> dict[str, Tensor]:
        """Update the weights once; the losses by name."""

    def write_samples(self, seen: int) -> None:
        """Write a grid of pictures."""

    def save(self) -> None:
        """Write a checkpoint."""


def train(trainer: Trainable, report: Callable[[str], None]) -> None:
    """Train to the end of the schedule, from where the trainer stands.

    Args:
        trainer: what to train; its ``step`` is advanced.
        report: is given each line of the loss log.
    """
    schedule = trainer.schedule
    while (seen := trainer.step * schedule.batch) < schedule.images:
        trainer.journal.add(trainer.train_step())
        trainer.step += 1
        before, seen = seen, trainer.step * schedule.batch
        if crossed(before, seen, schedule.log_every):
            report(trainer.journal.write_losses(seen, schedule.batch))
        if crossed(before, seen, schedule.sample_every):
            trainer.write_samples(seen)
        if crossed(before, seen, schedule.checkpoint_every):
            trainer.save()
    trainer.write_samples(trainer.step * schedule.batch)
    trainer.save()
