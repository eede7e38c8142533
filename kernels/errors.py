"""What can go wrong with the compiled operators."""

from __future__ import annotations


class KernelError(RuntimeError):
    """Compiled operators are not to be had; the message is one line that says why."""


class KernelWarning(UserWarning):
    """The plain operators are used although compiled ones were wished for."""
