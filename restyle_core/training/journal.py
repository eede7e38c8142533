"""The folder of a training run: checkpoint, loss log and sample grids."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restyle.core.errors import CheckpointError, SpecError
from restyle.core.files import parse_json, read_text
from restyle.core.training.event_file import EventFile
from restyle.core.training.run_files import append, cut, own_folder, replacing


class Journal:
    """Writes the files of a run; each is replaced atomically or appended to.

    A checkpoint records the length of the log and the losses of its next line, so that a run that
    was killed and resumed has the same log as an uninterrupted one.

    Args:
        folder: created when missing; holds ``spec.json``, ``losses.jsonl``, ``checkpoint.pt``,
            ``samples/`` and ``tensorboard/``.
        spec: the resolved specification. A folder with a checkpoint of another specification is
            refused unless only keys of ``extendable`` differ.
        complete: adds newer keys to a specification of an older release.

    Attributes:
        newest_grid: path of the last grid that was written; None before the first.
    """

    extendable = ("crops", "schedule", "optimizer")

    def __init__(
        self,
        folder: Path,
        spec: dict[str, Any],
        complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        self.folder = folder
        own_folder(folder / "samples")
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._since = time.monotonic()
        self._events: EventFile | None = None
        self.newest_grid: Path | None = None
        path = folder / "spec.json"
        # Without a checkpoint nothing was trained, and the specification may be replaced.
        if path.exists() and self.checkpoint_path.exists():
            stored = complete(self._read_spec(path))
            changed = [
                key
                for key in sorted({*stored, *spec} - set(self.extendable))
                if stored.get(key) != spec.get(key)
            ]
            if changed:
                raise SpecError(
                    f"{folder} belongs to a run with another {', '.join(changed)}; "
                    "choose another folder or restore the specification"
                )
        # Other processes of the run may be reading the file.
        with replacing(path) as file:
            file.write(json.dumps(spec, indent=2).encode())

    @staticmethod
    def _read_spec(path: Path) -> dict[str, Any]:
        try:
            stored = parse_json(read_text(path))
        except (SpecError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {error}; restore it") from error
        return stored if isinstance(stored, dict) else {}

    @property
    def checkpoint_path(self) -> Path:
        """Path of the newest checkpoint."""
        return self.folder / "checkpoint.pt"

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint, or None at the start of a run."""
        if not self.checkpoint_path.exists():
            cut(self._log_path, 0)
            return None
        state = self.read_checkpoint(self.checkpoint_path)
        # Checkpoints of older releases do not have "log".
        if (kept := state.get("log")) is not None:
            cut(self._log_path, kept["bytes"])
            self._sums.update(kept["sums"])
            self._count = kept["count"]
        return state

    @property
    def _log_path(self) -> Path:
        return self.folder / "losses.jsonl"

    @staticmethod
    def read_checkpoint(path: Path) -> dict[str, Any]:
        """Read the checkpoint of any run.

        Raises:
            CheckpointError: the file is damaged or holds more than tensors.
        """
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for a damaged file
            raise CheckpointError(
                f"{path} is damaged: {error}; delete it to start again"
            ) from error
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint atomically."""
        length = self._log_path.stat().st_size if self._log_path.exists() else 0
        log = {"bytes": length, "sums": dict(self._sums), "count": self._count}
        self.write_atomically(self.checkpoint_path.name, {**state, "log": log})

    def write_atomically(self, name: str, state: dict[str, Any]) -> None:
        """Replace a file of tensors in the folder atomically."""
        with replacing(self.folder / name) as file:
            torch.save(state, file)

    def add(self, losses: dict[str, Tensor]) -> None:
        """Collect the losses of one step."""
        for name, value in losses.items():
            self._sums[name] += float(value.detach())
        self._count += 1

    def write_losses(self, images: int, batch: int) -> str:
        """Append the mean of the collected losses to the log, and return the line."""
        seconds = time.monotonic() - self._since
        record: dict[str, float] = {"images": images}
        record["images_per_second"] = round(self._count * batch / seconds, 2)
        record |= {name: round(total / self._count, 5) for name, total in self._sums.items()}
        append(self._log_path, json.dumps(record))
        speed = {"images_per_second": record["images_per_second"]}
        losses = {f"losses/{name}": total / self._count for name, total in self._sums.items()}
        self.events(images).write_scalars(speed | losses, images)
        self._sums.clear()
        self._count = 0
        self._since = time.monotonic()
        return "  ".join(f"{name} {value:g}" for name, value in record.items())

    def write_grid(self, images: Tensor, columns: int, seen: int) -> Path:
        """Write images [N, 3, S, S] in [-1, 1] as one picture, row by row."""
        count, _, height, width = images.shape
        rows = count // columns
        pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        grid = pixels.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
        path = self.folder / "samples" / f"{seen:08d}.png"
        array = np.ascontiguousarray(grid.reshape(rows * height, columns * width, 3).numpy())
        with replacing(path) as file:
            Image.fromarray(array).save(file, "PNG")
        self.newest_grid = path
        self.events(seen).write_image("samples", path.read_bytes(), array.shape[:2], seen)
        return path

    def events(self, seen: int) -> EventFile:
        """The event file in the folder ``tensorboard``, created on first use."""
        if self._events is None:
            self._events = EventFile(own_folder(self.folder / "tensorboard"), seen)
        return self._events

    def close(self) -> None:
        """Close the event file; further events go to a new one."""
        if self._events is not None:
            self._events.close()
            self._events = None


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a counter passed a multiple of ``every`` between two values."""
    return now // every > before // every
