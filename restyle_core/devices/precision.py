"""Resolution of the precision option. Imports no torch, for processes without it."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Literal, get_args

from restyle.core.errors import SpecError

Precision = Literal["fp32", "tf32", "bf16"]
"""Precision of activations. ``tf32`` is float32 with convolutions in ten bits of mantissa."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# Instruction sets with bfloat16 products, in torch's and Linux's names for x86 and Arm.
_CPU_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


def choose_precision(
    dtype: str,
    support: Callable[[], str | None],
    where: Callable[[], str],
    *,
    is_gpu: bool = False,
) -> tuple[Precision, str]:
    """Resolve a precision; ``auto`` is bf16 if the processor supports it in hardware.

    Args:
        dtype: ``auto`` or one of :data:`PRECISIONS`.
        support: returns the processor's support for bfloat16, which on GPUs implies TF32; or None.
        where: returns the processor's name.
        is_gpu: whether the processor is a GPU. On a CPU bf16 without support is allowed but slow,
            and there is no tf32.

    Returns:
        The precision, and a line with the reason, such as ``bf16: avx512_bf16``.

    Raises:
        SpecError: the name is unknown, or the processor does not support the precision.
    """
    if dtype == "auto":
        found = support()
        if found is None:
            return "fp32", f"fp32: no bf16 instructions on {where()}"
        return "bf16", f"bf16: {found}"
    precision = named(dtype)
    if (precision == "tf32" and not is_gpu) or (precision != "fp32" and is_gpu and not support()):
        name = "bfloat16" if precision == "bf16" else precision
        raise SpecError(f"{where()} does not multiply {name}; use --dtype fp32")
    return precision, f"{precision}: asked for"


def named(dtype: str) -> Precision:
    """Find a precision by name.

    Raises:
        SpecError: there is none of this name.
    """
    for precision in PRECISIONS:
        if dtype == precision:
            return precision
    raise SpecError(f"dtype {dtype!r} is unknown; use auto, fp32 or bf16, or tf32 on a GPU")


def cpu_support(instructions: Container[str]) -> str | None:
    """The first instruction set with bfloat16 products among those given; None without one."""
    return next((name for name in _CPU_BF16 if name in instructions), None)
