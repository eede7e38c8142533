"""Errors and warnings of the compiled operators."""

from __future__ import annotations


class KernelError(RuntimeError):
    """Compiled operators are unavailable; the message is one line with the reason."""


class KernelWarning(UserWarning):
    """Plain operators are used although compiled ones are preferred."""
