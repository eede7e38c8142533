"""Choosing where and in which precision to compute, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from restyle.core.errors import SpecError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""The precisions that can be asked for, besides ``auto``."""

# Least compute capability of GPUs that multiply bfloat16: NVIDIA's Ampere. Older ones have float16,
# whose range is too small for what these generators' activations grow to.
_CUDA_BF16 = (8, 0)

# Instruction sets that multiply bfloat16, as torch names them on x86 and Arm.
_CPU_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


@dataclass(frozen=True)
class Placement:
    """Where and in which precision a model computes.

    Attributes:
        device: where.
        dtype: of activations.
        dtype_reason: the dtype and why, such as ``bf16: avx512_bf16``.
    """

    device: torch.device
    dtype: torch.dtype
    dtype_reason: str


def choose(dtype: str = "auto", device: str = "auto") -> Placement:
    """Resolve what a user asked for.

    Args:
        dtype: ``fp32``, ``bf16``, or ``auto`` for bf16 where the processor has it in hardware.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        SpecError: an unknown name, or a device that is not there.
    """
    where = choose_device(device)
    return Placement(where, *choose_dtype(dtype, where))


def choose_device(device: str) -> torch.device:
    """``auto`` is a CUDA device where there is one and the CPU elsewhere.

    Raises:
        SpecError: torch knows no such device, or this machine has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SpecError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise SpecError(
            f"device {device!r} is not there: {_cuda_devices()}; use --device cpu, or auto"
        )
    return chosen


def _cuda_devices() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} was built without CUDA"
    return f"torch sees {torch.cuda.device_count()} CUDA devices"


def choose_dtype(dtype: str, device: torch.device) -> tuple[torch.dtype, str]:
    """``auto`` is bfloat16 where the processor multiplies it in hardware and float32 elsewhere.

    Returns:
        The dtype of activations, and a line such as ``bf16: avx512_bf16``.

    Raises:
        SpecError: an unknown name, or bfloat16 on a GPU that has none.
    """
    if dtype == "bf16" and device.type == "cuda" and _bf16_support(device) is None:
        raise SpecError(f"{gpu_name(device)} does not multiply bfloat16; use --dtype fp32")
    if dtype in DTYPES:
        return DTYPES[dtype], f"{dtype}: asked for"
    if dtype != "auto":
        raise SpecError(f"dtype {dtype!r} is unknown; use auto, {' or '.join(DTYPES)}")
    support = _bf16_support(device)
    if support is None:
        where = "this cpu" if device.type == "cpu" else gpu_name(device)
        return torch.float32, f"fp32: no bf16 instructions on {where}"
    return torch.bfloat16, f"bf16: {support}"


def _bf16_support(device: torch.device) -> str | None:
    if device.type == "cuda":
        capable = torch.cuda.get_device_capability(device) >= _CUDA_BF16
        return gpu_name(device) if capable else None
    capabilities = torch.cpu.get_capabilities()
    return next((name for name in _CPU_BF16 if capabilities.get(name)), None)


def gpu_name(device: torch.device) -> str:
    """As the driver calls it."""
    return torch.cuda.get_device_name(device)


def use_exact_float32(device: torch.device) -> None:
    """Let float32 on a GPU be float32.

    By default cuDNN rounds what convolutions multiply to TF32's ten bits, which is further from
    float32 than what the metrics and the comparisons of runs promise. Holds for the process.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
