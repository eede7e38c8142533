"""The frame of every training run: opening its folder, the loop of steps, checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from restyle.core.training.crops import CropSet
from restyle.core.training.journal import Journal, crossed
from restyle.core.training.listener import TrainingListener
from restyle.core.training.processes import Processes
from restyle.core.training.spec import Schedule, TrainingSpec


@dataclass(frozen=True)
class Periodic:
    """An action that is repeated during a run.

    Attributes:
        every: interval in images.
        act: called with the number of images seen.
    """

    every: int
    act: Callable[[int], None]


class Trainer:
    """Base class of all trainers. A subclass defines the parts, one step, and the samples.

    Attributes:
        journal: the run's folder.
        crops: the training images.
        dtype: of activations.
        processes: the processes that share each batch.
        step: number of updates done.
    """

    journal: Journal
    crops: CropSet
    dtype: torch.dtype
    processes: Processes
    step: int

    @property
    def schedule(self) -> Schedule:
        """Length of the run and the intervals of its outputs."""
        raise NotImplementedError

    def train_step(self) -> dict[str, Tensor]:
        """Update the weights once and return the losses by name."""
        raise NotImplementedError

    def write_samples(self, seen: int) -> None:
        """Write a grid of pictures after ``seen`` images."""
        raise NotImplementedError

    def _parts(self) -> dict[str, Any]:
        """Networks and optimizers by their name in a checkpoint."""
        raise NotImplementedError

    def _constants(self) -> dict[str, Any]:
        """Further values that a checkpoint holds."""
        return {}

    def _periodic(self) -> Sequence[Periodic]:
        """Actions that are repeated before checkpoints are written."""
        return ()

    def _begin(self, spec: TrainingSpec, folder: Path, size: int) -> None:
        """Open the run's folder and images; set the number of threads and the seed.

        Args:
            spec: of the run.
            folder: of the run.
            size: side in pixels to which images of folders are resized.

        Raises:
            SpecError: the folder belongs to another run, or the images cannot be used.
        """
        self.journal = Journal(folder, spec.model_dump(mode="json"), _complete(type(spec)))
        self.crops = CropSet.load(spec.crops, size)
        self.dtype = torch.bfloat16 if spec.schedule.dtype == "bf16" else torch.float32
        if spec.schedule.threads:
            torch.set_num_threads(spec.schedule.threads)
        torch.manual_seed(spec.schedule.seed)

    def _resume(self) -> None:
        """Load the newest checkpoint, if there is one, and set ``step``."""
        state = self.journal.load()
        if state is not None:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
        self.step = 0 if state is None else state["step"]

    def _seed_step(self) -> None:
        """Seed the random numbers of a step from its number, so that a resumed run repeats them."""
        torch.manual_seed(self.schedule.seed * 1_000_003 + self.step)

    def save(self) -> None:
        """Write a checkpoint."""
        states = {name: part.state_dict() for name, part in self._parts().items()}
        self.journal.save({"step": self.step, **self._constants(), **states})

    def run(
        self,
        report: Callable[[str], None] = print,
        listener: TrainingListener | None = None,
    ) -> int:
        """Train from the last checkpoint to the end of the schedule.

        Of several processes only the first writes files; the others hold equal weights.

        Args:
            report: called with each line of the loss log.
            listener: receives further events, and may stop the run after a step.

        Returns:
            Number of images seen; fewer than the schedule's if the listener stopped the run, after
            a checkpoint was written.
        """
        # The first process must not write a file that another one still has to read.
        self.processes.wait()
        if self.processes.rank > 0:
            while self._seen < self.schedule.images:
                self.train_step()
                self.step += 1
            return self._seen
        with contextlib.closing(self.journal):
            self._train_and_write(report, listener or TrainingListener())
        return self._seen

    @property
    def _seen(self) -> int:
        return self.step * self.schedule.batch

    def _train_and_write(self, report: Callable[[str], None], listener: TrainingListener) -> None:
        schedule = self.schedule
        listener.stepped(self._seen, schedule.images)
        while (before := self._seen) < schedule.images:
            self.journal.add(self.train_step())
            self.step += 1
            seen = self._seen
            listener.stepped(seen, schedule.images)
            if crossed(before, seen, schedule.log_every):
                line = self.journal.write_losses(seen, schedule.batch)
                report(line)
                listener.logged(line)
            if crossed(before, seen, schedule.sample_every):
                self._sample(listener)
            for task in self._periodic():
                if crossed(before, seen, task.every):
                    task.act(seen)
            if crossed(before, seen, schedule.checkpoint_every):
                self.save()
            # The others of several processes would wait for this one's next step.
            if listener.is_stopping() and self.processes.count == 1:
                self.save()
                return
        self._sample(listener)
        self.save()

    def _sample(self, listener: TrainingListener) -> None:
        self.write_samples(self._seen)
        if self.journal.newest_grid is not None:
            listener.sampled(self.journal.newest_grid)


def _complete(kind: type[TrainingSpec]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that adds the defaults of newer keys to an older specification."""

    def complete(stored: dict[str, Any]) -> dict[str, Any]:
        try:
            return kind.model_validate(stored).model_dump(mode="json")
        except ValidationError:
            # Keys that no longer exist: the comparison names them.
            return stored

    return complete
