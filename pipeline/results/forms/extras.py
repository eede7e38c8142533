"""Libraries that are installed with an extra of this package."""

from __future__ import annotations

import importlib.util

from restyle.core.errors import SpecError


def require(module: str, extra: str, purpose: str) -> None:
    """Check that an optional library is installed.

    Args:
        module: its import name.
        extra: the extra of this package that installs it.
        purpose: what needs it, in the message.

    Raises:
        SpecError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise SpecError(f"{purpose} needs {module}: pip install 'restyle-pipeline[{extra}]'")
