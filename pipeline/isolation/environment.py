"""Environment of child processes that does not depend on the working directory."""

from __future__ import annotations

import os

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Keeps the working directory out of Python's import path."""

_PATHS = ("RESTYLE_CACHE", "RESTYLE_LANDMARKS", "XDG_CACHE_HOME")


def child_environment(*first: str) -> dict[str, str]:
    """Variables for a child in another working directory, with a safe import path.

    The directory of a run may contain foreign files, which must not be imported as modules.

    Args:
        first: folders at the start of ``PYTHONPATH``.

    Returns:
        ``PYTHONSAFEPATH``; ``PYTHONPATH`` without empty and relative entries; and the project's
        variables with paths, made absolute.
    """
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    absolute = [entry for entry in entries if os.path.isabs(entry)]  # noqa: PTH117 (no file yet)
    paths = {name: os.environ[name] for name in _PATHS if os.environ.get(name)}
    return {
        **SAFE_PATH,
        "PYTHONPATH": os.pathsep.join([*first, *absolute]),
        **{name: os.path.abspath(path) for name, path in paths.items()},  # noqa: PTH100
    }
