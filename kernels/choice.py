"""Which operators are meant; imports no torch."""

from __future__ import annotations

import os
from typing import Literal

from restyle.kernels.build import ensure_built
from restyle.kernels.errors import KernelError
from restyle.kernels.toolchain import find

Impl = Literal["auto", "native", "reference"]
"""``native``: compiled, or an error; ``reference``: plain PyTorch; ``auto``: whichever works."""

IMPLS: tuple[Impl, ...] = ("auto", "native", "reference")

VARIABLE = "RESTYLE_KERNELS"
"""What ``auto`` means in this environment: ``auto``, ``native`` or ``reference``."""


def resolved(impl: str) -> Impl:
    """``auto`` as the environment wants it.

    Raises:
        KernelError: an unknown name.
    """
    wanted = os.environ.get(VARIABLE, "auto") if impl == "auto" else impl
    for known in IMPLS:
        if wanted == known:
            return known
    raise KernelError(f"{wanted!r} are no kernels; use {', '.join(IMPLS)}")


def built_ahead(target: str, impl: Impl = "auto") -> str:
    """Build the operators that will be used on this machine, before workers wait for each other.

    Args:
        target: kind of device.
        impl: see :data:`Impl`.

    Returns:
        A line such as ``native: g++ (GCC) 12.2`` or ``reference: no C++ compiler ...``.

    Raises:
        KernelError: ``native``, and they cannot be built.
    """
    impl = resolved(impl)
    if impl == "reference":
        return "reference: asked for"
    try:
        if target not in ("cpu", "cuda"):
            raise KernelError(f"there are no compiled operators for {target}")
        chain = find("cuda" if target == "cuda" else "cpu")
        ensure_built(chain)
    except KernelError as error:
        if impl == "native":
            raise
        return f"reference: {error}"
    return f"native: {chain.version.splitlines()[0]}"
