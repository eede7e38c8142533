"""The device and precision that a worker reports; this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restyle.core.inference.model import Model


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
    """

    device: str
    gpu: str
    dtype: str
    kernels: str
    batch_size: int | None = None
    graphs: str = ""

    @classmethod
    def of(cls, model: Model, batch_size: int | None = None) -> WorkerInfo:
        """Describe the process that has loaded ``model``."""
        return cls(
            device=str(model.device),
            gpu=model.gpu_name,
            dtype=str(model.dtype).removeprefix("torch."),
            kernels=model.kernels,
            batch_size=batch_size,
            graphs=model.graph_problem,
        )
