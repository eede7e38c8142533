"""Files of this machine: a file, a folder with all below it, or a pattern."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from restyle.core.shown_text import recorded
from restyle.pipeline.sources.output_names import Barred
from restyle.pipeline.sources.patterns import before_magic, has_magic, local_matches
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.storage.filesystem import absolute_path, local_path

FILE = b"file://"
"""What the URI of a local file begins with."""


def list_local(path: str, out: str) -> Iterator[SourceImage]:
    """All regular files that a path names and that are not hidden, in order of their paths.

    Holds the names of one folder at a time, and of those that it lies in.

    Args:
        path: a file, a folder, or a pattern.
        out: the output's path or URI; what belongs to it is left out.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        OSError: a folder cannot be listed.
    """
    out_path = local_path(out)
    absolute = absolute_path(path)
    is_pattern = has_magic(absolute) and not Path(absolute).exists()
    if not is_pattern:
        Path(absolute).stat()
    base = before_magic(absolute) if is_pattern else absolute
    barred = Barred(None if out_path is None else absolute_path(out_path), base)
    seen: set[tuple[int, int]] = set()
    for match in local_matches(absolute) if is_pattern else [absolute]:
        if barred(match):
            continue
        if Path(match).is_dir():
            yield from _walk(match, barred, seen)
        elif (image := local_image(match)) is not None:
            yield image


def local_image(path: str) -> SourceImage | None:
    """A local file as an input; None when it is a folder, a device or a pipe.

    A dangling link and a missing file are inputs that cannot be read, not ones to overlook.

    Args:
        path: absolute.
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


def _walk(root: str, barred: Barred, seen: set[tuple[int, int]]) -> Iterator[SourceImage]:
    """All files below a folder that are not hidden."""
    pending = [_entries(root, seen)]
    while pending:
        path = next(pending[-1], None)
        if path is None:
            pending.pop()
        elif barred(path.rstrip("/")):
            continue
        elif path.endswith("/"):
            pending.append(_entries(path.rstrip("/"), seen))
        elif (image := local_image(path)) is not None:
            yield image


def _entries(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Paths in a folder, those of folders with a slash at the end, in the order of full paths."""
    try:
        status = os.stat(folder)  # noqa: PTH116 (once for each folder)
        # Links to folders are followed, so a link upwards would lead round in a circle.
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            names = sorted(
                f"{entry.name}/" if entry.is_dir() else entry.name
                for entry in entries
                if not entry.name.startswith(".")
            )
    except FileNotFoundError:
        # It was removed since its parent was listed.
        return
    prefix = folder.rstrip("/")
    for name in names:
        yield f"{prefix}/{name}"
