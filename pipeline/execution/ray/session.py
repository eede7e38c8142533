"""Private folder, environment and working directory of a run's local cluster.

By default Ray's folder is accessible to every user, the token that allows commands is written to
the user's home as a file that everyone may read, and workers import from the directory in which
the run was started, which may contain files of others.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from restyle.kernels.private_folder import PrivateFolder, remove_abandoned
from restyle.pipeline.isolation.environment import child_environment

# Short, because paths of Unix sockets may have at most 107 characters.
FOLDERS = "/tmp"  # noqa: S108 (a private folder is made in it)
PREFIX = "restyle-"

# Ray reads the token once per process, so all clusters of this process share it.
_TOKEN = secrets.token_hex(32)


class Session:
    """The folder of a local cluster, accessible only to its user.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self) -> None:
        # Folders of killed runs.
        remove_abandoned(FOLDERS, PREFIX)
        self._folder = PrivateFolder(FOLDERS, PREFIX)
        self._token = self._folder.path / "token"
        descriptor = os.open(self._token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_TOKEN)

    @property
    def ray_folder(self) -> str:
        """Ray's folder: accessible to everyone by itself, but its parent is private."""
        return str(self._folder.path / "ray")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Context in which processes are started with the session's environment and directory."""
        work = self._folder.path / "work"
        work.mkdir(exist_ok=True)
        environment = {
            **child_environment(),
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "RAY_AUTH_TOKEN": None,
            # Unset means on, also where it is switched off for other clusters.
            "RAY_AUTH_MODE": None,
        }
        with _environment(environment), working_in(work):
            yield

    def last_words(self) -> str:
        """Return the last fatal message of Ray's native code in a worker's log; empty for none."""
        logs = (self._folder.path / "ray").glob("session_2*/logs/worker-*.err")
        with contextlib.suppress(OSError):
            for log in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
                for line in log.read_text("utf-8", "replace").splitlines():
                    if line.startswith("***"):
                        return line.strip("* ").partition(" at time=")[0][:200]
        return ""

    @property
    def folder(self) -> Path:
        """The folder, which is part of the command lines of Ray's processes."""
        return self._folder.path

    def remove(self) -> None:
        """Remove the folder after the end of the cluster."""
        self._folder.remove()


@contextlib.contextmanager
def working_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Context with another working directory, from which Ray's workers import."""
    # A descriptor, because the directory may have been removed.
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


@contextlib.contextmanager
def _environment(changed: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    _set(changed)
    try:
        yield
    finally:
        _set(before)


def _set(changed: Mapping[str, str | None]) -> None:
    for name, value in changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
