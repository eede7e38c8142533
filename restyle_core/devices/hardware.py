"""Choice of device and precision, with the reason."""

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
"""Dtype of activations by precision."""

# First compute capability with bfloat16 and TF32 (NVIDIA Ampere). The float16 of older GPUs has too
# small a range for these generators' activations.
_CUDA_BF16 = (8, 0)


@dataclass(frozen=True)
class Placement:
    """Device and precision of a model.

    Attributes:
        device: of parameters and activations.
        dtype: of activations.
        dtype_reason: the dtype with a reason, such as ``bf16: avx512_bf16``.
        tf32: whether float32 convolutions may use TF32.
    """

    device: torch.device
    dtype: torch.dtype
    dtype_reason: str
    tf32: bool = False


def choose(dtype: str = "auto", device: str = "auto") -> Placement:
    """Resolve the options for dtype and device.

    Args:
        dtype: one of :data:`DTYPES`, or ``auto`` for bf16 if the processor supports it in hardware.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        SpecError: a name is unknown, or the device does not exist.
    """
    where = choose_device(device)
    return Placement(where, *choose_dtype(dtype, where), tf32=dtype == "tf32")


def choose_device(device: str) -> torch.device:
    """Resolve a device; ``auto`` is a CUDA device if there is one, else the CPU.

    Raises:
        SpecError: the name is unknown, or this machine has no such device.
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
    """Resolve a precision; ``auto`` is bfloat16 if the processor supports it, else float32.

    Returns:
        The dtype of activations, and a line such as ``bf16: avx512_bf16``.

    Raises:
        SpecError: the name is unknown, or the processor does not support the precision.
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
    """Name of a GPU, as reported by the driver."""
    return torch.cuda.get_device_name(device)


WORKSPACE_VARIABLE = "CUDNN_CONV_WSCAP_DBG"
"""Environment variable: cuDNN's limit for the work space of a convolution, in megabytes."""

# More memory makes no layer of the published models faster; without a limit cuDNN took 35 GB.
_WORKSPACE = "1024"


def set_up_gpu(device: torch.device) -> None:
    """Disable TF32 and limit cuDNN's memory, for the whole process.

    By default cuDNN rounds the factors of float32 convolutions to TF32's ten bits, which exceeds
    the tolerance of metrics and of comparisons between runs.
    """
    if device.type == "cuda":
        os.environ.setdefault(WORKSPACE_VARIABLE, _WORKSPACE)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


@contextlib.contextmanager
def convolving(*, tf32: bool, benchmark: bool | None = None) -> Iterator[None]:
    """Set cuDNN's options for the duration of the context.

    Args:
        tf32: round float32 to TF32.
        benchmark: time algorithms for each new shape and use the fastest; None changes nothing.
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
