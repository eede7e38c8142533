"""Choosing where and in which precision to compute, with the reason."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from restyle.core.devices.precision import Precision, choose_precision, cpu_support
from restyle.core.errors import SpecError

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
}
"""The precisions that can be asked for, besides ``auto``."""

# Least compute capability of GPUs that multiply bfloat16 and TF32: NVIDIA's Ampere. Older ones have
# float16, whose range is too small for what these generators' activations grow to.
_CUDA_BF16 = (8, 0)


@dataclass(frozen=True)
class Placement:
    """Where and in which precision a model computes.

    Attributes:
        device: where.
        dtype: of activations.
        dtype_reason: the dtype and why, such as ``bf16: avx512_bf16``.
        tf32: convolutions of float32 may round what they multiply.
    """

    device: torch.device
    dtype: torch.dtype
    dtype_reason: str
    tf32: bool = False


def choose(dtype: str = "auto", device: str = "auto") -> Placement:
    """Resolve what a user asked for.

    Args:
        dtype: one of :data:`DTYPES`, or ``auto`` for bf16 where the processor has it in hardware.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        SpecError: an unknown name, or a device that is not there.
    """
    where = choose_device(device)
    return Placement(where, *choose_dtype(dtype, where), tf32=dtype == "tf32")


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
        SpecError: an unknown name, or what the processor does not multiply.
    """
    precision, reason = choose_precision(
        dtype,
        lambda: _bf16_support(device),
        lambda: gpu_name(device) if device.type == "cuda" else "this cpu",
        is_gpu=device.type == "cuda",
    )
    return DTYPES[precision], reason


def _bf16_support(device: torch.device) -> str | None:
    if device.type == "cuda":
        capable = torch.cuda.get_device_capability(device) >= _CUDA_BF16
        return gpu_name(device) if capable else None
    return cpu_support([name for name, there in torch.cpu.get_capabilities().items() if there])


def gpu_name(device: torch.device) -> str:
    """As the driver calls it."""
    return torch.cuda.get_device_name(device)


WORKSPACE_VARIABLE = "CUDNN_CONV_WSCAP_DBG"
"""Megabytes of memory that cuDNN may use for a convolution's intermediate results."""

# With more of it no layer of the published models was faster; without a bound cuDNN took 35 GB.
_WORKSPACE = "1024"


def set_up_gpu(device: torch.device) -> None:
    """Let float32 on a GPU be float32, and bound cuDNN's memory. Holds for the process.

    By default cuDNN rounds what convolutions multiply to TF32's ten bits, which is further from
    float32 than what the metrics and the comparisons of runs promise.
    """
    if device.type == "cuda":
        os.environ.setdefault(WORKSPACE_VARIABLE, _WORKSPACE)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


@contextlib.contextmanager
def convolving(*, tf32: bool, benchmark: bool | None = None) -> Iterator[None]:
    """How cuDNN convolves meanwhile.

    Args:
        tf32: float32 is rounded to TF32.
        benchmark: try algorithms when a shape first comes and remember the fastest; None leaves
            that as it is.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32 = tf32
    if benchmark is not None:
        cudnn.benchmark = benchmark
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before
