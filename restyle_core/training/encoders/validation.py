"""Losses on validation images, and the choice of the best weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from restyle.core.errors import SpecError
from restyle.core.training.crops import CropSet
from restyle.core.training.encoders.reconstruction import LossNetworks, ReconstructionLoss
from restyle.core.training.encoders.spec import EncoderSpec, Validation
from restyle.core.training.journal import Journal
from restyle.core.training.run_files import replacing


class Validator:
    """Evaluates an encoder by the weighted losses of its last refinement step.

    Each evaluation appends a line to ``validation.jsonl``. ``best.pt`` holds the averaged weights
    with the least total. The least total is part of the run's checkpoint.

    Args:
        settings: the images and the interval.
        spec: of the run.
        side: of the crops in pixels.
        journal: the run's folder.

    Raises:
        SpecError: the crops cannot be used.
    """

    def __init__(
        self, settings: Validation, spec: EncoderSpec, side: int, journal: Journal
    ) -> None:
        held = CropSet.load(settings.crops, side)
        if held.images.shape[-1] != side:
            raise SpecError(
                f"validation.crops are {held.images.shape[-1]} pixels wide, the crops {side}"
            )
        indices = torch.arange(min(settings.images, len(held)))
        self.images, self.targets = held.batch(indices), held.target_batch(indices)
        self.every = settings.every
        self.batch = spec.schedule.batch
        # The identity loss is computed for every image here, so its weight is not raised.
        self.weights = spec.losses.model_copy(update={"identity_share": 1.0})
        self.journal = journal
        self.least = math.inf
        self._log_length = 0

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"least": self.least, "log_length": self._log_length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint; later lines of the log are overwritten."""
        self.least, self._log_length = state["least"], state["log_length"]

    @torch.no_grad()
    def evaluate(
        self,
        reconstruct: Callable[[Tensor], Tensor],
        networks: LossNetworks,
        dtype: torch.dtype,
    ) -> dict[str, float]:
        """Mean losses over the validation images, by name, and their ``total``.

        Args:
            reconstruct: maps images [B, 3, h, w] to their last reconstructions.
            networks: frozen networks of the losses.
            dtype: of the networks' activations.
        """
        sums: dict[str, float] = {}
        batches = (torch.split(each, self.batch) for each in (self.images, self.targets))
        for images, targets in zip(*batches, strict=True):
            objective = ReconstructionLoss(self.weights, targets, networks, dtype)
            for name, value in objective(reconstruct(images), with_identity=True).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(images)
        losses = {name: value / len(self.images) for name, value in sums.items()}
        return losses | {"total": sum(losses.values())}

    def record(self, seen: int, losses: dict[str, float], best: dict[str, Any]) -> None:
        """Append a line to the log and write ``best.pt`` if the total is the least so far.

        Args:
            seen: images of the run so far.
            losses: from :meth:`evaluate`.
            best: content of ``best.pt``.
        """
        path = self.journal.folder / "validation.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        rounded = {name: round(value, 6) for name, value in losses.items()}
        kept = [*lines[: self._log_length], json.dumps({"images": seen} | rounded) + "\n"]
        with replacing(path) as file:
            file.write("".join(kept).encode())
        self._log_length = len(kept)
        scalars = {f"validation/{name}": value for name, value in losses.items()}
        self.journal.events(seen).write_scalars(scalars, seen)
        if losses["total"] < self.least:
            self.least = losses["total"]
            self.journal.write_atomically("best.pt", {"images": seen, "total": self.least} | best)
