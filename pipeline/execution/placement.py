"""Choice of a run's device and precision, without importing torch where possible.

The import of torch takes more than a second, and only the workers need it.
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

# Device files of the drivers of NVIDIA, of NVIDIA under WSL, and of AMD.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class Placement:
    """Device and precision of a run.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: precision of activations.
        reason: the precision and its reason, such as ``bf16: avx512_bf16``.
    """

    device: str
    dtype: Precision
    reason: str


def choose(dtype: str, device: str, workers: Workers | None = None) -> Placement:
    """Resolve ``auto``, as :func:`restyle.core.devices.hardware.choose` does.

    Args:
        dtype: ``auto``, ``fp32``, ``tf32`` or ``bf16``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: of the run; None for this machine.

    Raises:
        SpecError: a name is unknown, or the device does not exist.
        FatalError: the cluster does not answer.
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
    # The reason begins with the precision.
    precision = found.dtype_reason.partition(":")[0]
    return Placement(str(found.device), named(precision), found.dtype_reason)


PLAIN = "reference: "
"""Prefix of the value of :func:`operators` when the operators are not compiled."""


def operators(device: str, workers: Workers | None = None) -> str:
    """Return the implementation of the generator's operators with its reason; compile them now.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        workers: of the run; None for this machine.

    Raises:
        FatalError: compiled operators are required and cannot be built.
    """
    if workers is not None and workers.address is not None:
        return "chosen by each worker"
    try:
        return built_ahead(device.partition(":")[0])
    except KernelError as error:
        raise FatalError(str(error)) from error


def threads_here() -> int:
    """Return ``OMP_NUM_THREADS`` where it is set, else the number of cores of this process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))


def _on_cluster(dtype: str, device: str, workers: Workers) -> Placement | None:
    """Return the placement on the GPUs of a cluster; None where it has none."""
    if device == "auto" and workers.gpus_per_actor is None:
        # Imported here, because Ray's import is slow.
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
    """Instruction sets listed by Linux; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()
