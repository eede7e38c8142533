"""Globs: where the signs of a pattern begin, and what matches locally."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Iterator, Sequence

SIGNS = "*?["


def has_magic(path: str) -> bool:
    """Whether a path has the signs of a pattern."""
    return _magic_start(path) < len(path)


def before_magic(path: str) -> str:
    """The folder that all matches of a pattern lie in."""
    return path[: _magic_start(path)].rpartition("/")[0] or "/"


def local_matches(pattern: str) -> Iterator[str]:
    """Files and folders that an absolute pattern matches, folder by folder, in order of names.

    ``*``, ``?`` and ``[...]`` match within a name, ``**`` any number of folders. Hidden names only
    match where the pattern has the dot. A folder that ``**`` at the end matches stands for all
    that is in it.

    Raises:
        OSError: a folder cannot be listed.
    """
    base = before_magic(pattern)
    parts = [part for part in pattern[len(base) :].split("/") if part]
    yield from _matches(base.rstrip("/"), parts)


def _matches(folder: str, parts: Sequence[str]) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches_below(folder, rest, set())
    elif has_magic(part):
        fits = re.compile(fnmatch.translate(part)).match
        for name, is_folder in _names(folder, hidden=part.startswith(".")):
            if fits(name) and not rest:
                yield f"{folder}/{name}"
            elif fits(name) and is_folder:
                yield from _matches(f"{folder}/{name}", rest)
    elif rest:
        yield from _matches(f"{folder}/{part}", rest)
    elif os.path.lexists(f"{folder}/{part}"):
        yield f"{folder}/{part}"


def _matches_below(folder: str, parts: Sequence[str], seen: set[tuple[int, int]]) -> Iterator[str]:
    """Matches in a folder and in all folders below; links back up lead nowhere new."""
    if not parts:
        if os.path.isdir(folder or "/"):  # noqa: PTH112 (as in the other lines)
            yield folder or "/"
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        status = os.stat(folder or "/")  # noqa: PTH116 (once for each folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
    yield from _matches(folder, parts)
    for name, is_folder in _names(folder, hidden=False):
        if is_folder:
            yield from _matches_below(f"{folder}/{name}", parts, seen)


def _names(folder: str, *, hidden: bool) -> list[tuple[str, bool]]:
    """Names in a folder, sorted, and whether each is a folder; empty where there is none."""
    try:
        with os.scandir(folder or "/") as entries:
            return sorted(
                (entry.name, entry.is_dir())
                for entry in entries
                if hidden or not entry.name.startswith(".")
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


def _magic_start(path: str) -> int:
    return min((path.find(sign) for sign in SIGNS if sign in path), default=len(path))
