"""The folder of an export, which appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from restyle.core.errors import FatalError, SpecError, reason_of
from restyle.core.files import parse_json, read_bytes
from restyle.core.shown_text import visible
from restyle.pipeline.storage.addresses import absolute_path, local_path, shown_uri
from restyle.pipeline.storage.marks import EXPORT

_SUFFIX = ".restyle-export"
_MOST_MARKER = 1 << 20


def check_target(target: str, out: str) -> Path:
    """Check that an export may be written somewhere.

    Args:
        target: the folder of the export.
        out: the output that is exported.

    Returns:
        The absolute path of the folder.

    Raises:
        SpecError: it exists, is no local folder, or lies in the output.
    """
    path = local_path(target)
    if path is None:
        shown = shown_uri(target)
        raise SpecError(f"{shown} is not on a disk; export to a local folder and copy it there")
    folder = Path(absolute_path(path))
    if os.path.lexists(folder):
        raise SpecError(f"{folder} exists; remove it, or name another folder with --out")
    inside = local_path(out)
    if inside is not None and Path(absolute_path(inside)) in folder.parents:
        raise SpecError(f"{folder} lies in {out}; name a folder beside it with --out")
    return folder


@contextlib.contextmanager
def whole_folder(folder: Path, about: Mapping[str, object]) -> Iterator[Path]:
    """Yield a hidden folder beside the target, which gets its name when all went well.

    What a killed export left under the hidden name is removed first.

    Args:
        folder: the target, which does not exist.
        about: content of the marker file, by which an export is known.

    Raises:
        SpecError: another export to this folder is at work.
        FatalError: the folder cannot be written.
    """
    hidden = _hidden(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(hidden.with_name(f"{hidden.name}.lock"), folder):
            if hidden.is_dir() and not hidden.is_symlink():
                shutil.rmtree(hidden)
            hidden.mkdir()
            try:
                yield hidden
                _write_marker(hidden, about)
                _sync(hidden)
                os.rename(hidden, folder)  # noqa: PTH104 (Path.rename would replace a folder, too)
            finally:
                shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        reason = reason_of(error)
        raise FatalError(f"cannot write {visible(str(folder))}: {reason}") from error


def is_begun(folder: Path) -> bool:
    """Whether there is an export, or a part of one that was killed."""
    return any(map(os.path.lexists, (folder, _hidden(folder))))


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{_SUFFIX}")


def read_marker(folder: Path) -> dict[str, object] | None:
    """What an export's marker file says; None if the folder is no export."""
    try:
        about = parse_json(read_bytes(folder / EXPORT, _MOST_MARKER))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None


def _write_marker(folder: Path, about: Mapping[str, object]) -> None:
    (folder / EXPORT).write_text(json.dumps(about, indent=1) + "\n", encoding="ascii")


@contextlib.contextmanager
def _locked(path: Path, folder: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpecError(
                f"another export to {folder} is at work; wait for its end, or name another folder"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """Write the files of a folder through to the disk."""
    for path in sorted(folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
