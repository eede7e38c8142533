"""Reading and atomic writing of files on any fsspec URI."""

from __future__ import annotations

from pathlib import Path

from restyle.pipeline.storage.addresses import absolute_path, local_path, open_filesystem, shown_uri
from restyle.pipeline.storage.containment import check_name, path_inside
from restyle.pipeline.storage.errors import storage_errors
from restyle.pipeline.storage.local_files import LocalStorage
from restyle.pipeline.storage.remote_files import RemoteStorage
from restyle.pipeline.storage.storage import Part, Storage

__all__ = [
    "Part",
    "Storage",
    "absolute_path",
    "local_file",
    "local_path",
    "open_filesystem",
    "open_storage",
    "shown_uri",
    "storage_errors",
]


def open_storage(uri: str) -> Storage:
    """Open an output location.

    Args:
        uri: a local path, ``file://`` or any URI that an installed fsspec package handles.

    Raises:
        SpecError: the scheme is unknown, a package is missing, or the URI contains a secret.
    """
    path = local_path(uri)
    if path is not None:
        return LocalStorage(Path(absolute_path(path)))
    return RemoteStorage(uri)


def local_file(uri: str, name: str) -> Path | None:
    """The local path of an output's file; None for a remote output.

    Args:
        uri: the output, a path or any fsspec URI.
        name: relative to it, as in the ledger.

    Raises:
        FatalError: the name leads out of the output, or through a link.
    """
    path, shown = local_path(uri), shown_uri(uri)
    if path is None:
        check_name(name, shown)
        return None
    with storage_errors("cannot look at", f"{shown.rstrip('/')}/{name}"):
        return path_inside(Path(absolute_path(path)), name, shown)
