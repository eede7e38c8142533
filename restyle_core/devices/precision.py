"""Which precision a request comes to; imports no torch, for processes that do without it."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Literal, get_args

from restyle.core.errors import SpecError

Precision = Literal["fp32", "tf32", "bf16"]
"""Of activations. ``tf32`` is float32 whose convolutions round what they multiply to ten bits."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# Instruction sets that multiply bfloat16, as torch and Linux name them on x86 and Arm.
_CPU_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


def choose_precision(
    dtype: str,
    support: Callable[[], str | None],
    where: Callable[[], str],
    *,
    is_gpu: bool = False,
) -> tuple[Precision, str]:
    """Resolve ``auto``, which is bf16 where the processor multiplies it in hardware.

    Args:
        dtype: ``auto`` or one of :data:`PRECISIONS`.
        support: says what multiplies bfloat16, or None when nothing does. GPUs that do have TF32.
        where: what the processor is called.
        is_gpu: of the processor. On a CPU bf16 without support is slow, and there is no tf32.

    Returns:
        The precision, and a line with the reason, such as ``bf16: avx512_bf16``.

    Raises:
        SpecError: an unknown name, or what the processor does not multiply.
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
    """A precision by its name.

    Raises:
        SpecError: there is none of this name.
    """
    for precision in PRECISIONS:
        if dtype == precision:
            return precision
    raise SpecError(f"dtype {dtype!r} is unknown; use auto, fp32 or bf16, or tf32 on a GPU")


def cpu_support(instructions: Container[str]) -> str | None:
    """The first of a processor's instruction sets that multiplies bfloat16."""
    return next((name for name in _CPU_BF16 if name in instructions), None)
