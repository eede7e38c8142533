"""Glob patterns: locate the first wildcard of a pattern and match it against local files."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Iterator, Sequence

SIGNS = "*?["

BAD_NAMES = frozenset({errno.ENAMETOOLONG, errno.ELOOP})
"""Error codes that concern a single name only; other files can still be read."""


def has_magic(path: str) -> bool:
    """Return whether a path contains wildcards."""
    return _magic_start(path) < len(path)


def before_magic(path: str) -> str:
    """Return the deepest folder that contains all matches of a pattern."""
    return path[: _magic_start(path)].rpartition("/")[0] or "/"


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether a directory entry is a folder or a link to one.

    A circular link, or a link to a name that is too long, counts as a file: an input that cannot be
    read.
    """
    try:
        return entry.is_dir()
    except OSError:
        return False


def local_matches(pattern: str) -> Iterator[str]:
    """Yield the files and folders that an absolute pattern matches, sorted by name per folder.

    ``*``, ``?`` and ``[...]`` match within a name, ``**`` matches any number of folders. Hidden
    names match only where the pattern has the dot. A folder that a final ``**`` matches includes
    all its contents. A folder whose path is too long to be opened is itself a match.

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
        for name, leads_on in _names(folder, hidden=part.startswith(".")):
            if fits(name) and not rest:
                yield f"{folder}/{name}"
            elif fits(name) and leads_on:
                yield from _matches(f"{folder}/{name}", rest)
    elif rest:
        yield from _matches(f"{folder}/{part}", rest)
    elif os.path.lexists(f"{folder}/{part}"):
        yield f"{folder}/{part}"


def _matches_below(folder: str, parts: Sequence[str], seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the matches in a folder and all folders below it, and visit each folder once."""
    if not parts:
        if os.path.isdir(folder or "/"):  # noqa: PTH112 (as in the other lines)
            yield folder or "/"
        return
    # An explicit stack, because a path can be deeper than Python's recursion limit.
    pending = [folder]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder or "/")  # noqa: PTH116 (once for each folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno not in BAD_NAMES:
                raise
            yield folder
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from _matches(folder, parts)
        names = _names(folder, hidden=False)
        pending += [f"{folder}/{name}" for name, leads_on in reversed(names) if leads_on]


def _names(folder: str, *, hidden: bool) -> list[tuple[str, bool]]:
    """Return the sorted names in a folder, each with whether it is a folder; empty if missing."""
    try:
        with os.scandir(folder or "/") as entries:
            return sorted(
                (entry.name, is_folder(entry))
                for entry in entries
                if hidden or not entry.name.startswith(".")
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


def _magic_start(path: str) -> int:
    return min((path.find(sign) for sign in SIGNS if sign in path), default=len(path))
