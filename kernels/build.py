"""The cache of compiled libraries. Of several processes that need a library, one builds it.

::

    CACHE/KEY/library.so      complete with its checksum: renamed into place
    CACHE/KEY/build.lock      locked during a build; the system releases it when its holder dies
    CACHE/KEY/attempt-XXXX/   folder of a running build, or of one that was killed

Simultaneous builds are correct but redundant, because each has its own folder. So a lock that is
not acquired only costs time, and waiting for it is limited.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from restyle.kernels.errors import KernelError
from restyle.kernels.library_file import is_intact, is_ours, seal
from restyle.kernels.private_folder import PrivateFolder, remove_abandoned
from restyle.kernels.toolchain import SOURCES, Toolchain

_LIBRARY = "library.so"
_LOCK = "build.lock"
_ATTEMPT = "attempt-"

PATIENCE = 300.0
"""Seconds to wait for another process's build before building as well."""

_POLL = 0.05
_LONGEST_BUILD = 1200.0


def cache_folder() -> Path:
    """``kernels`` in ``$RESTYLE_CACHE``, or in ``restyle`` of the user's cache folder.

    Raises:
        KernelError: the user has no home directory.
    """
    chosen = os.environ.get("RESTYLE_CACHE")
    if chosen:
        return Path(chosen).absolute() / "kernels"
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise KernelError(f"the kernel cache: {error} Set RESTYLE_CACHE to a folder") from error
    return Path(home).absolute() / "restyle" / "kernels"


def library_path(toolchain: Toolchain) -> Path:
    """Path of the compiled library."""
    return cache_folder() / toolchain.key / _LIBRARY


def ensure_built(toolchain: Toolchain, *, patience: float = PATIENCE) -> Path:
    """Build the library unless it exists.

    Args:
        toolchain: compiler, flags and sources.
        patience: seconds to wait for another process's build before building as well.

    Returns:
        Path of the library.

    Raises:
        KernelError: the cache cannot be used, or the compiler fails.
    """
    library = library_path(toolchain)
    try:
        _own(library.parent)
        if is_intact(library):
            return library
        with _lock(library.with_name(_LOCK), patience) as alone:
            if is_intact(library):
                return library
            if alone:
                remove_abandoned(library.parent, _ATTEMPT)
            _build(toolchain, library)
            if not is_intact(library):
                raise KernelError(
                    f"{library} is damaged as soon as it is built; check the disk, or set "
                    "RESTYLE_CACHE to a folder on another one"
                )
    except OSError as error:
        raise KernelError(f"the kernel cache {library.parent}: {error}") from error
    return library


def _own(folder: Path) -> None:
    """Create the folder and check that only this user can write code to it."""
    for place in (folder.parents[1], folder.parent, folder):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for place in (folder, folder.parent):
        if not is_ours(place.stat()):
            raise KernelError(
                f"the kernel cache {place} can be written by others; set RESTYLE_CACHE to a "
                "folder of your own, or make it yours alone with chmod go-w"
            )
    # Write access to the parent would allow replacing the folder.
    above = folder.parents[1].stat()
    if not is_ours(above) and not above.st_mode & stat.S_ISVTX:
        raise KernelError(
            f"the folder of the kernel cache, {folder.parents[1]}, can be written by others; set "
            "RESTYLE_CACHE to a folder of your own"
        )


@contextlib.contextmanager
def _lock(path: Path, patience: float) -> Iterator[bool]:
    """Wait for the lock; yields whether it was acquired."""
    deadline = time.monotonic() + patience
    # Python's descriptors are not inherited, so a compiler that outlives its parent holds no lock.
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(_POLL)
            except OSError:
                # The file system has no locks.
                yield False
                return
            else:
                yield True
                return


def _build(toolchain: Toolchain, library: Path) -> None:
    attempt = PrivateFolder(library.parent, _ATTEMPT)
    try:
        (attempt.path / "build.ninja").write_text(_ninja_file(toolchain), encoding="utf-8")
        _run_ninja(toolchain, attempt.path)
        seal(attempt.path / _LIBRARY)
        (attempt.path / _LIBRARY).replace(library)
    finally:
        attempt.remove()


def _run_ninja(toolchain: Toolchain, folder: Path) -> None:
    ninja = shutil.which("ninja", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH')}")
    if ninja is None:
        raise KernelError("ninja is not found; pip install ninja")
    try:
        done = subprocess.run(  # noqa: S603 - our own build file
            [ninja, "-C", str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LONGEST_BUILD,
        )
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"{toolchain.compiler} did not finish in {error.timeout:.0f} s") from None
    if done.returncode:
        raise KernelError(f"{toolchain.compiler} failed: {_first_error(done.stdout)}")


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower()] or lines
    return told[0] if told else "without a message"


def _ninja_file(toolchain: Toolchain) -> str:
    def escaped(path: str) -> str:
        return "".join(f"${c}" if c in "$ :" else c for c in path)

    depfile = "-MMD -MF $out.d" if toolchain.target != "cuda" else "-MD -MF $out.d"
    objects = [f"{name}.o" for name in toolchain.sources]
    compiler = _quoted(toolchain.compiler)
    lines = [
        "ninja_required_version = 1.5",
        "rule compile",
        f"  command = {compiler} {' '.join(toolchain.flags)} {depfile} -c $in -o $out",
        "rule link",
        f"  command = {compiler} $in {' '.join(toolchain.link_flags)} -o $out",
        *(
            f"build {built}: compile {escaped(str(SOURCES / name))}"
            for built, name in zip(objects, toolchain.sources, strict=True)
        ),
        f"build {_LIBRARY}: link {' '.join(objects)}",
        f"default {_LIBRARY}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: str) -> str:
    return "'" + path.replace("$", "$$").replace("'", "'\\''") + "'"
