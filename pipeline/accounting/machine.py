"""The device and precision that a worker reports; this module does not import torch."""

from __future__ import annotations

import os
import resource
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    import torch

    from restyle.core.inference.model import Model


@dataclass(frozen=True)
class WorkerUse:
    """What a worker has done so far.

    Attributes:
        worker: Random name of its process.
        device: As in :class:`WorkerInfo`; of several GPUs, with the one that it sees.
        images: Faces that it inverted.
        busy: Share of the time, 0 to 1, in which it had something to compute.
        memory: Peak in bytes: on a GPU of what PyTorch allocated there, on a CPU of the process.
        batches: Batches that it computed; 0 where they are not counted.
        places: Faces that fit into these batches, by the batch size.
    """

    worker: str
    device: str
    images: int
    busy: float
    memory: int
    batches: int = 0
    places: int = 0


class Use:
    """Adds up what one worker does. Thread-safe."""

    def __init__(self) -> None:
        self._worker = secrets.token_hex(4)
        self._images = 0
        self._computing = 0.0
        self._starved = 0.0
        self._batches = 0
        self._places = 0
        self._adding = threading.Lock()

    def add(self, images: int, computing: float, starved: float) -> None:
        """Add a unit.

        Args:
            images: faces that were inverted.
            computing: seconds of computing them.
            starved: seconds in which there was nothing to compute.
        """
        with self._adding:
            self._images += images
            self._computing += computing
            self._starved += starved

    def add_batch(self, places: int) -> None:
        """Add a batch.

        Args:
            places: faces that fit into it.
        """
        with self._adding:
            self._batches += 1
            self._places += places

    def so_far(self, device: torch.device) -> WorkerUse:
        """The sums until now.

        Args:
            device: that the worker computes on.
        """
        with self._adding:
            together = self._computing + self._starved
            return WorkerUse(
                worker=self._worker,
                device=_named(device),
                images=self._images,
                busy=round(self._computing / together, 4) if together else 0.0,
                memory=_peak(device),
                batches=self._batches,
                places=self._places,
            )


def _named(device: torch.device) -> str:
    """The device, and which GPU of the machine that is: Ray lets each worker see its own alone."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return f"{device} (GPU {visible})" if device.type == "cuda" and visible else str(device)


def _peak(device: torch.device) -> int:
    """Peak memory in bytes."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class WorkerInfo:
    """Device, precision and batch size that a worker uses.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``, with the worker's own device index.
        gpu: Name of the GPU; empty on a CPU.
        dtype: Data type of activations, such as ``bfloat16``.
        kernels: Implementation of the generator's operators, and the reason for it.
        batch_size: Faces per batch, reduced if the batch did not fit into memory; None if the
            worker computes each unit as one batch.
        graphs: Reason why the GPU runs without CUDA graphs; empty if it uses them, or on a CPU.
        use: What this worker has done; does not distinguish workers. None if it is not measured.
    """

    device: str
    gpu: str
    dtype: str
    kernels: str
    batch_size: int | None = None
    graphs: str = ""
    # In run.json it has a place of its own.
    use: Annotated[WorkerUse | None, Field(exclude=True)] = field(default=None, compare=False)

    @classmethod
    def of(
        cls, model: Model, batch_size: int | None = None, use: WorkerUse | None = None
    ) -> WorkerInfo:
        """Describe the process that has loaded ``model``."""
        return cls(
            device=str(model.device),
            gpu=model.gpu_name,
            dtype=str(model.dtype).removeprefix("torch."),
            kernels=model.kernels,
            batch_size=batch_size,
            graphs=model.graph_problem,
            use=use,
        )
