"""What all trainings share: how they begin, the loop of steps, and what is written between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from torch import Tensor

from restyle.core.training.crops import CropSet
from restyle.core.training.journal import Journal, crossed
from restyle.core.training.processes import Processes
from restyle.core.training.spec import Schedule, TrainingSpec


@dataclass(frozen=True)
class Beginning:
    """What every trainer starts from.

    Attributes:
        journal: the run's folder.
        crops: the training images.
        dtype: of activations.
    """

    journal: Journal
    crops: CropSet
    dtype: torch.dtype


def begin(spec: TrainingSpec, folder: Path, size: int | None = None) -> Beginning:
    """Open a run's folder and images, and fix threads and the first random numbers.

    Args:
        spec: of the run.
        folder: of the run.
        size: side in pixels that images of folders are brought to.

    Raises:
        SpecError: the folder belongs to another run, or the images cannot be used.
    """
    journal = Journal(folder, spec.model_dump(mode="json"), _complete(type(spec)))
    crops = CropSet.load(spec.crops, size)
    if spec.schedule.threads:
        torch.set_num_threads(spec.schedule.threads)
    torch.manual_seed(spec.schedule.seed)
    return Beginning(
        journal, crops, torch.bfloat16 if spec.schedule.dtype == "bf16" else torch.float32
    )


def _complete(kind: type[TrainingSpec]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What brings a specification that an older release wrote up to date."""

    def complete(known: dict[str, Any]) -> dict[str, Any]:
        try:
            return kind.model_validate(known).model_dump(mode="json")
        except ValidationError:
            # Keys that no longer exist: the comparison names them.
            return known

    return complete


def resume(journal: Journal, parts: Mapping[str, Any]) -> int:
    """Load the newest checkpoint into networks and optimizers; the step to go on from."""
    state = journal.load()
    if state is None:
        return 0
    for name, part in parts.items():
        part.load_state_dict(state[name])
    step: int = state["step"]
    return step


class Trainable(Protocol):
    """What the loop needs to know of a trainer."""

    journal: Journal
    processes: Processes
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


@dataclass(frozen=True)
class Periodic:
    """What is done every so often.

    Attributes:
        every: images between two times.
        act: is given the images seen so far.
    """

    every: int
    act: Callable[[int], None]


def train(trainer: Trainable, report: Callable[[str], None], also: Sequence[Periodic] = ()) -> None:
    """Train to the end of the schedule, from where the trainer stands.

    The first of several processes writes; what the others would write is the same.

    Args:
        trainer: what to train; its ``step`` is advanced.
        report: is given each line of the loss log.
        also: what else is done on the way, before a checkpoint is written.
    """
    schedule = trainer.schedule
    # What one of them writes at the end of a step, no other may still have to read.
    trainer.processes.wait()
    if trainer.processes.rank > 0:
        while trainer.step * schedule.batch < schedule.images:
            trainer.train_step()
            trainer.step += 1
        return
    with contextlib.closing(trainer.journal):
        _train_and_write(trainer, report, also)


def _train_and_write(
    trainer: Trainable, report: Callable[[str], None], also: Sequence[Periodic]
) -> None:
    schedule = trainer.schedule
    while (seen := trainer.step * schedule.batch) < schedule.images:
        trainer.journal.add(trainer.train_step())
        trainer.step += 1
        before, seen = seen, trainer.step * schedule.batch
        if crossed(before, seen, schedule.log_every):
            report(trainer.journal.write_losses(seen, schedule.batch))
        if crossed(before, seen, schedule.sample_every):
            trainer.write_samples(seen)
        for task in also:
            if crossed(before, seen, task.every):
                task.act(seen)
        if crossed(before, seen, schedule.checkpoint_every):
            trainer.save()
    trainer.write_samples(trainer.step * schedule.batch)
    trainer.save()
