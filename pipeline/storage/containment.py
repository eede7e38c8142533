"""Checks that names stay inside of an output and pass through no links.

An output may be untrusted, and files that its ledger names are read, replaced and deleted.
"""

from __future__ import annotations

import stat
from pathlib import Path

from restyle.core.errors import DamagedError
from restyle.pipeline.storage.errors import DAMAGE


def check_name(name: str, uri: str) -> None:
    """Check that a relative name does not lead out of its folder.

    Args:
        name: with ``/`` between its parts; empty for the folder itself.
        uri: the folder, for messages.

    Raises:
        DamagedError: the name is absolute, goes upward, or has an empty part.
    """
    parts = name.split("/") if name else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise DamagedError(
            f"{uri} names a file that does not lie inside of it ({name!a}); {DAMAGE}"
        )


def path_inside(root: Path, name: str, uri: str) -> Path:
    """The path of a file or folder inside a local folder.

    Args:
        root: the folder; may be a link or behind one.
        name: relative to it, with ``/`` between its parts.
        uri: the folder, for messages.

    Raises:
        DamagedError: the name leads out of the folder, or a part of it is a link.
        OSError: a part cannot be examined.
    """
    folder = parent_inside(root, name, uri)
    path = folder / name.rpartition("/")[2] if name else root
    if name:
        _refuse_link(path, name, uri)
    return path


def parent_inside(root: Path, name: str, uri: str) -> Path:
    """The folder of a file to replace or remove; the file may be a link.

    Arguments and errors are those of :func:`path_inside`.
    """
    check_name(name, uri)
    path = root
    *parents, _ = name.split("/")
    for number, part in enumerate(parents, start=1):
        path = path / part
        _refuse_link(path, "/".join(parents[:number]), uri)
    return path


def _refuse_link(path: Path, name: str, uri: str) -> None:
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if is_link:
        raise DamagedError(
            f"{uri.rstrip('/')}/{name} is a link, and links inside an output are not followed; put "
            "what it leads to in its place, or see `restyle repair`"
        )
