"""Where and how a worker computes, as it found out itself; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restyle.core.inference.model import Model


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker chose, or was left with.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``, as the worker counts.
        gpu: the name of the GPU; empty on a CPU.
        dtype: of activations.
        kernels: by which of the generator's operators, and why.
        batch_size: faces per batch, less than before where these did not fit into memory; None
            where they come as units have them.
        graphs: why a GPU's steps are not replayed from recordings; empty where they are, or where
            there is no GPU.
    """

    device: str
    gpu: str
    dtype: str
    kernels: str
    batch_size: int | None = None
    graphs: str = ""

    @classmethod
    def of(cls, model: Model, batch_size: int | None = None) -> WorkerInfo:
        """That of a process that holds a model."""
        return cls(
            device=str(model.device),
            gpu=model.gpu_name,
            dtype=str(model.dtype).removeprefix("torch."),
            kernels=model.kernels,
            batch_size=batch_size,
            graphs=model.graph_problem,
        )
