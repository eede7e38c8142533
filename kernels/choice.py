"""Choice between compiled and plain operators. Imports no torch."""

from __future__ import annotations

import os
from typing import Literal

from restyle.kernels.build import ensure_built
from restyle.kernels.errors import KernelError
from restyle.kernels.toolchain import find

Impl = Literal["auto", "native", "reference"]
"""``native``: compiled or error; ``reference``: plain PyTorch; ``auto``: compiled if possible."""

IMPLS: tuple[Impl, ...] = ("auto", "native", "reference")

VARIABLE = "RESTYLE_KERNELS"
"""Environment variable: replaces ``auto`` by ``auto``, ``native`` or ``reference``."""


def resolved(impl: str) -> Impl:
    """Replace ``auto`` by the value of the environment variable, if it is set.

    Raises:
        KernelError: the name is unknown.
    """
    wanted = os.environ.get(VARIABLE, "auto") if impl == "auto" else impl
    for each in IMPLS:
        if wanted == each:
            return each
    raise KernelError(f"{wanted!r} are no kernels; use {', '.join(IMPLS)}")


def built_ahead(target: str, impl: Impl = "auto") -> str:
    """Build the operators for this machine ahead of time, so that workers need not wait.

    Args:
        target: device type.
        impl: see :data:`Impl`.

    Returns:
        A line such as ``native: g++ (GCC) 12.2`` or ``reference: no C++ compiler ...``.

    Raises:
        KernelError: ``impl`` is ``native`` and the build fails.
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
