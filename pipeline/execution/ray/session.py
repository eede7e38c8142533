"""Where a cluster of one run lives: a folder, an environment and a working directory of its own.

By default Ray lets everybody into its folder, writes the token with which one may run commands
into the user's home as a file that all may read, and has its workers import from the directory
that the run was started in, which may hold a stranger's files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from restyle.kernels.private_folder import PrivateFolder, remove_abandoned
from restyle.pipeline.isolation.environment import child_environment

# Short, because the paths of Unix sockets inside may have no more than 107 characters.
FOLDERS = "/tmp"  # noqa: S108 (a private folder is made in it)
PREFIX = "restyle-"

# Ray reads the token once in a process, so it is the same for all clusters that one starts.
_TOKEN = secrets.token_hex(32)


class Session:
    """The folder of a local cluster; no one but its user may enter it.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        # What clusters of killed runs left.
        remove_abandoned(FOLDERS, PREFIX)
        self._folder = PrivateFolder(FOLDERS, PREFIX)
        self._token = self._folder.path / "token"
        descriptor = os.open(self._token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_TOKEN)

    @property
    def ray_folder(self) -> str:
        """Ray's own, to which it admits everybody; nobody else gets as far as that."""
        return str(self._folder.path / "ray")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """What is started meanwhile has the session's environment and working directory."""
        work = self._folder.path / "work"
        work.mkdir(exist_ok=True)
        environment = {
            **child_environment(),
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "RAY_AUTH_TOKEN": None,
            # Not set, it is on, even where it was switched off for other clusters.
            "RAY_AUTH_MODE": None,
        }
        with _environment(environment), working_in(work):
            yield

    def last_words(self) -> str:
        """What the worker that died last said of that, where Ray's native code noticed it."""
        logs = (self._folder.path / "ray").glob("session_2*/logs/worker-*.err")
        with contextlib.suppress(OSError):
            for log in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
                for line in log.read_text("utf-8", "replace").splitlines():
                    if line.startswith("***"):
                        return line.strip("* ").partition(" at time=")[0][:200]
        return ""

    @property
    def folder(self) -> Path:
        """In the command lines of the cluster's own processes."""
        return self._folder.path

    def remove(self) -> None:
        """Remove the folder; the cluster has ended."""
        self._folder.remove()


@contextlib.contextmanager
def working_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Change the working directory; Ray tells its workers to import from it."""
    # By descriptor: the directory may have been removed, and has no name then.
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
