"""Inputs: what ``INPUT`` names becomes a stable list of images with stable identities."""

from __future__ import annotations

import glob as local_glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.source_image import SourceImage as SourceImage
from pipeline.source_image import image_id as image_id
from pipeline.storage import absolute_path, local_path, open_filesystem, shown_uri, storage_errors
from restyle_core.errors import SpecError, TransientError

OUTPUT_NAMES = frozenset(
    {"latents", "steps", "reconstructions", "rejects", "_ledger", "run.json", "report.html"}
)
"""What this project writes at the top of an output; never taken for an input."""

_FILE = b"file://"


def list_images(source: str, out: str) -> list[SourceImage]:
    """Everything that ``source`` names: a file, a folder (recursively), or a glob.

    Every regular file is listed, so that one that is no image is accounted for as a reject.
    Hidden files and folders are skipped, and so is everything under ``out``.

    Args:
        source: a path or URI.
        out: the output's path or URI.

    Returns:
        The inputs, each once, ordered by URI.

    Raises:
        SpecError: nothing of this name exists, or it names no file at all.
        FatalError: it cannot be listed.
    """
    path = local_path(source)
    try:
        with storage_errors("cannot list", shown_uri(source)):
            if path is not None and not _has_magic(path):
                Path(path).stat()
            images = _list_local(path, out) if path is not None else _list_remote(source, out)
            found = {image.image_id: image for image in images}
    except FileNotFoundError as error:
        raise SpecError(f"{shown_uri(source)} does not exist; correct INPUT") from error
    except TransientError as error:
        raise SpecError(str(error)) from error
    if not found:
        raise SpecError(f"{shown_uri(source)} holds no files to invert; correct INPUT")
    return sorted(found.values(), key=lambda image: image.uri)


class SourceReader:
    """Reads the bytes of inputs; keeps one connection per scheme.

    Args:
        source: ``INPUT`` as the user gave it.
    """

    def __init__(self, source: str) -> None:
        self._filesystems: dict[str, Any] = {}
        if local_path(source) is None:
            scheme = source.partition("://")[0]
            self._filesystems[scheme] = open_filesystem(source)[0]

    def read(self, image: SourceImage) -> bytes:
        """The bytes of one input.

        Raises:
            OSError: this input cannot be read, and others may be.
            FatalError: no credentials.
            TransientError: the store did not answer properly; trying again may work.
        """
        if image.uri.startswith(_FILE):
            return Path(os.fsdecode(image.uri.removeprefix(_FILE))).read_bytes()
        uri = image.uri.decode()
        scheme = uri.partition("://")[0]
        if scheme not in self._filesystems:
            self._filesystems[scheme] = open_filesystem(uri)[0]
        with storage_errors("cannot read", image.source):
            try:
                return bytes(self._filesystems[scheme].cat_file(uri))
            except PermissionError as error:
                # One object may be closed to us while the others are not.
                raise FileNotFoundError(str(error)) from error


def _list_local(path: str, out: str) -> Iterator[SourceImage]:
    out_path = local_path(out)
    absolute = absolute_path(path)
    is_glob = _has_magic(absolute) and not Path(absolute).exists()
    base = _before_magic(absolute) if is_glob else absolute
    barred = _Barred(None if out_path is None else absolute_path(out_path), base)
    # Path.glob takes no absolute pattern.
    matches = local_glob.iglob(absolute, recursive=True) if is_glob else [absolute]  # noqa: PTH207
    for match in matches:
        if not barred(match):
            yield from _walk(match, barred) if Path(match).is_dir() else _local_image(match)


@dataclass(frozen=True)
class _Barred:
    """Tells which paths or URIs belong to the output, and so are no inputs.

    Attributes:
        out: the output, or None when it cannot overlap with the input.
        base: the folder that is listed.
    """

    out: str | None
    base: str

    def __call__(self, path: str) -> bool:
        if self.out is None:
            return False
        out, base = self.out.rstrip("/"), self.base.rstrip("/")
        if path != out and not path.startswith(out + "/"):
            return False
        # An output inside the input is skipped whole. When the inputs live inside the output's
        # folder, only what this project wrote there is.
        return out.startswith(base + "/") or (
            path[len(out) + 1 :].partition("/")[0] in OUTPUT_NAMES
        )


def _walk(root: str, barred: _Barred) -> Iterator[SourceImage]:
    """All files below a folder that are not hidden."""
    seen: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        status = Path(folder).stat()
        # Links to folders are followed, so a link upwards would lead round in a circle.
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith(".") or barred(entry.path):
                continue
            if entry.is_dir():
                pending.append(entry.path)
            else:
                yield from _local_image(entry.path)


def _local_image(path: str) -> Iterator[SourceImage]:
    try:
        status = Path(path).stat()
    except OSError:
        # A dangling link: an input that will be rejected as unreadable, not one to overlook.
        size, version = -1, ""
    else:
        if not stat.S_ISREG(status.st_mode):
            return
        size, version = status.st_size, str(status.st_mtime_ns)
    uri = _FILE + os.fsencode(path)
    yield SourceImage(image_id(uri), shown_uri(path), uri, size, version)


def _list_remote(source: str, out: str) -> Iterator[SourceImage]:
    filesystem, path = open_filesystem(source)
    root = _full_uri(filesystem, path)
    base = _before_magic(root) if _has_magic(root) else root
    remote_out = None if local_path(out) is not None else _full_uri(*open_filesystem(out))
    barred = _Barred(remote_out, base)
    for entry in _remote_entries(filesystem, path):
        name = str(entry["name"])
        uri = str(filesystem.unstrip_protocol(name))
        below = uri.removeprefix(base).lstrip("/").split("/")
        hidden = uri != root and any(part.startswith(".") for part in below)
        if entry["type"] != "file" or name.endswith("/") or hidden or barred(uri):
            continue
        version = entry.get("ETag") or entry.get("LastModified") or entry.get("mtime") or ""
        size = entry.get("size")
        encoded = uri.encode()
        yield SourceImage(
            image_id(encoded),
            shown_uri(uri),
            encoded,
            -1 if size is None else int(size),
            str(version).strip('"'),
        )


def _full_uri(filesystem: Any, path: str) -> str:
    """A URI as its file system spells it."""
    return str(filesystem.unstrip_protocol(path)).rstrip("/")


def _remote_entries(filesystem: Any, path: str) -> list[dict[str, Any]]:
    if not _has_magic(path) or filesystem.exists(path):
        found = filesystem.find(path, detail=True)
        if not found and not filesystem.exists(path):
            raise FileNotFoundError(path)
        return list(found.values())
    entries: list[dict[str, Any]] = []
    for name, entry in filesystem.glob(path, detail=True).items():
        if entry["type"] == "directory":
            entries += filesystem.find(name, detail=True).values()
        else:
            entries.append(entry)
    return entries


def _has_magic(path: str) -> bool:
    return _magic_start(path) < len(path)


def _before_magic(path: str) -> str:
    """The folder that a glob's matches all lie in."""
    return path[: _magic_start(path)].rpartition("/")[0] or "/"


def _magic_start(path: str) -> int:
    return min((path.find(sign) for sign in "*?[" if sign in path), default=len(path))
