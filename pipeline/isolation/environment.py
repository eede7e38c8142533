"""What a child process needs in its environment to depend on no current directory."""

from __future__ import annotations

import os

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Keeps the directory in which Python is started out of what it imports from."""

_PATHS = ("RESTYLE_CACHE", "RESTYLE_LANDMARKS", "XDG_CACHE_HOME")


def child_environment(*first: str) -> dict[str, str]:
    """Variables to set for a child that is started in another directory, and imports safely.

    The directory of a run may hold a stranger's files, of which none may be taken for a module.

    Args:
        first: folders to import from before those of ``PYTHONPATH``.

    Returns:
        ``PYTHONSAFEPATH``; ``PYTHONPATH`` without the entries that depend on the directory, as an
        empty one does; and the paths that the project reads from variables, made absolute.
    """
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    absolute = [entry for entry in entries if os.path.isabs(entry)]  # noqa: PTH117 (no file yet)
    paths = {name: os.environ[name] for name in _PATHS if os.environ.get(name)}
    return {
        **SAFE_PATH,
        "PYTHONPATH": os.pathsep.join([*first, *absolute]),
        **{name: os.path.abspath(path) for name, path in paths.items()},  # noqa: PTH100
    }
