"""List local files: a single file, a folder with everything below it, or a pattern."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from restyle.core.errors import RejectReason, reason_of
from restyle.core.shown_text import recorded
from restyle.pipeline.sources.output_names import LocalFiles, OwnFiles
from restyle.pipeline.sources.patterns import (
    BAD_NAMES,
    before_magic,
    has_magic,
    is_folder,
    local_matches,
)
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import absolute_path, local_path

FILE = b"file://"
"""Prefix of the URIs of local files."""


def list_local(
    path: str, out: str, passed: Callable[[str], None] = lambda _folder: None
) -> Iterator[SourceImage]:
    """Yield all regular, non-hidden files that a path names, sorted by path.

    Memory holds the names of one folder and its parent folders at a time.

    Args:
        path: a file, a folder, or a pattern.
        out: path or URI of the output; files of this or any other output are skipped.
        passed: callback that receives each folder in which another output was skipped.

    Raises:
        FileNotFoundError: ``path`` does not exist, or is a dangling link.
        OSError: a folder cannot be listed.
    """
    out_path = local_path(out)
    absolute = absolute_path(path)
    is_pattern = has_magic(absolute) and not os.path.exists(absolute)  # noqa: PTH110
    if not is_pattern:
        _check_exists(absolute)
    base = before_magic(absolute) if is_pattern else absolute
    barred = LocalFiles(None if out_path is None else absolute_path(out_path), base, passed)
    seen: set[tuple[int, int]] = set()
    for match in local_matches(absolute) if is_pattern else [absolute]:
        if barred(match):
            continue
        if os.path.isdir(match):  # noqa: PTH112 (Path raises for names that are too long)
            yield from _walk(match, barred, seen)
        elif (image := local_image(match)) is not None:
            yield image


def local_image(path: str) -> SourceImage | None:
    """Return a local file as an input; None for a folder, a device or a pipe.

    Dangling links and missing files become inputs that cannot be read, so that they are not
    silently ignored.

    Args:
        path: absolute path.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (once for each input)
    except OSError:
        size, version = -1, ""
    else:
        if not stat.S_ISREG(status.st_mode):
            return None
        size, version = status.st_size, str(status.st_mtime_ns)
    uri = FILE + os.fsencode(path)
    return SourceImage(image_id(uri), recorded(path), uri, size, version)


def _check_exists(path: str) -> None:
    try:
        Path(path).stat()
    except OSError as error:
        if error.errno in BAD_NAMES:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder", path) from error
        raise


def _walk(root: str, barred: OwnFiles, seen: set[tuple[int, int]]) -> Iterator[SourceImage]:
    """Yield all non-hidden files below a folder, and folders whose path cannot be opened."""
    pending = [_entries(root, seen)]
    while pending:
        try:
            path = next(pending[-1], None)
        except OSError as error:
            if error.errno not in BAD_NAMES:
                raise
            yield _unreachable(str(error.filename), error)
            path = None
        if path is None:
            pending.pop()
        elif barred(path.rstrip("/")):
            continue
        elif path.endswith("/"):
            pending.append(_entries(path.rstrip("/"), seen))
        elif (image := local_image(path)) is not None:
            yield image


def _entries(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the paths in a folder sorted by full path; paths of folders end with a slash."""
    try:
        status = os.stat(folder)  # noqa: PTH116 (once for each folder)
        # Links to folders are followed, so a link to a parent folder would cause an endless loop.
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            names = sorted(
                f"{entry.name}/" if is_folder(entry) else entry.name
                for entry in entries
                if not entry.name.startswith(".")
            )
    except FileNotFoundError:
        # The folder was removed after its parent was listed.
        return
    prefix = folder.rstrip("/")
    for name in names:
        yield f"{prefix}/{name}"


def _unreachable(folder: str, error: OSError) -> SourceImage:
    """Return a rejected input that records a folder which cannot be opened by its path."""
    uri = FILE + os.fsencode(folder)
    fault = f"{RejectReason.UNREADABLE}|the folder cannot be listed: {reason_of(error)}"
    return SourceImage(image_id(uri), recorded(folder), uri, -1, "", "", fault)
