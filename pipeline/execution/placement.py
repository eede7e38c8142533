"""Where and in which precision a run computes, decided without torch where that is possible.

Importing torch costs more than a second, which a run of one photograph would pay twice: the
workers need torch, the process that directs them does not.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from restyle.core.devices.precision import Precision, choose_precision, cpu_support, named
from restyle.core.errors import FatalError, SpecError
from restyle.kernels.choice import built_ahead
from restyle.kernels.errors import KernelError
from restyle.pipeline.execution.request import Workers

# Device files of NVIDIA's driver, its form under WSL, and AMD's.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class Placement:
    """What a request comes to on this machine.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of activations.
        reason: the dtype and why, such as ``bf16: avx512_bf16``.
    """

    device: str
    dtype: Precision
    reason: str


def choose(dtype: str, device: str, workers: Workers | None = None) -> Placement:
    """Resolve ``auto``, as :func:`restyle.core.devices.hardware.choose` does.

    Args:
        dtype: ``auto``, ``fp32``, ``tf32`` or ``bf16``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: where it will be computed; on this machine when None.

    Raises:
        SpecError: an unknown name, or a device that is not there.
        FatalError: the cluster that must be asked does not answer.
    """
    if workers is not None and workers.address is not None and device != "cpu":
        placement = _on_cluster(dtype, device, workers)
        if placement is not None:
            return placement
        device = "cpu"
    if device == "cpu" or (device == "auto" and not _has_accelerator()):
        flags = _processor_flags()
        if flags or dtype != "auto":
            return Placement(
                "cpu", *choose_precision(dtype, lambda: cpu_support(flags), lambda: "this cpu")
            )
    from restyle.core.devices.hardware import choose as choose_with_torch

    found = choose_with_torch(dtype, device)
    # A reason begins with the precision.
    precision = found.dtype_reason.partition(":")[0]
    return Placement(str(found.device), named(precision), found.dtype_reason)


PLAIN = "reference: "
"""Begins what :func:`operators` says of operators that are not compiled."""


def operators(device: str, workers: Workers | None = None) -> str:
    """Which of the generator's operators will be used, and why; compiled ones are built now.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        workers: where they will be used; on this machine when None.

    Raises:
        FatalError: compiled ones are insisted on, and cannot be built.
    """
    if workers is not None and workers.address is not None:
        return "chosen by each worker"
    try:
        return built_ahead(device.partition(":")[0])
    except KernelError as error:
        raise FatalError(str(error)) from error


def threads_here() -> int:
    """Cores that this process may use, or what the user set for numerical libraries."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else len(os.sched_getaffinity(0))


def _on_cluster(dtype: str, device: str, workers: Workers) -> Placement | None:
    """The GPUs of other machines, which cannot be looked at from here; None without any."""
    if device == "auto" and workers.gpus_per_actor is None:
        # Here, because most runs need not wait for Ray's import before they know what to do.
        from restyle.pipeline.execution.ray.engine import has_gpus

        if not has_gpus(workers.address or "auto"):
            return None
    elif device == "auto" and not workers.gpus_per_actor:
        return None
    elif device not in ("auto", "cuda"):
        raise SpecError(f"--device {device} with --address: Ray chooses the GPU itself; use cuda")
    return Placement(
        "cuda",
        *choose_precision(dtype, lambda: "GPUs of the cluster", lambda: "the cluster", is_gpu=True),
    )


def _has_accelerator() -> bool:
    return sys.platform != "linux" or any(Path(file).exists() for file in _ACCELERATORS)


def _processor_flags() -> frozenset[str]:
    """Instruction sets as Linux lists them; empty when it does not."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()
