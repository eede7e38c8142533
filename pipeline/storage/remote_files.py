"""Files of an object store, or of anything else that fsspec opens, each written by one request.

Transient failures are retried (:mod:`restyle.pipeline.storage.retries`); all operations are
idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import Sequence
from typing import Any

from restyle.core.errors import FatalError, TransientError
from restyle.pipeline.storage.addresses import open_filesystem, shown_uri, storage_timeout
from restyle.pipeline.storage.containment import check_name
from restyle.pipeline.storage.errors import explained, storage_errors
from restyle.pipeline.storage.retries import retrying
from restyle.pipeline.storage.storage import Part, Storage

_READ_AT_ONCE = 256
_SLOWEST = 256 * 1024
"""Bytes per second below which a write counts as stuck."""


class RemoteStorage(Storage):
    """A folder of a remote store.

    Args:
        uri: its address.
    """

    def __init__(self, uri: str) -> None:
        self._filesystem, path = open_filesystem(uri)
        self._root = path.rstrip("/")
        self.address = uri
        self.uri = shown_uri(uri)

    def write(self, name: str, data: bytes) -> None:
        """Put a file by one request, which takes as long as its bytes need at the most."""
        check_name(name, self.uri)

        def put() -> None:
            with storage_errors("cannot write", self.shown(name)):
                try:
                    self._put(f"{self._root}/{name}", data)
                except FileNotFoundError as error:
                    raise FatalError(f"cannot write {self.shown(name)}: {error}") from error

        retrying(put)

    def _put(self, path: str, data: bytes) -> None:
        if not self._filesystem.async_impl:
            self._filesystem.pipe_file(path, data)
            return
        # Imported late, because local runs need no fsspec.
        from fsspec.asyn import sync

        limit = 2 * storage_timeout() + len(data) / _SLOWEST

        async def limited() -> None:
            # The client has no timeout for a server that accepts part of a request and then stalls.
            await asyncio.wait_for(self._filesystem._pipe_file(path, data), limit)

        sync(self._filesystem.loop, limited)

    def read_parts(self, parts: Sequence[Part]) -> list[bytes]:
        """Read parts of files, many at once."""
        for part in parts:
            check_name(part.name, self.uri)
        found: dict[int, bytes] = {}
        for start in range(0, len(parts), _READ_AT_ONCE):
            missing = list(range(start, min(start + _READ_AT_ONCE, len(parts))))
            retrying(functools.partial(self._fetch, parts, missing, found))
        return [found[index] for index in range(len(parts))]

    def _fetch(self, parts: Sequence[Part], missing: list[int], found: dict[int, bytes]) -> None:
        """Read missing parts by index in parallel; after a failure only the rest is read again."""
        asked = [index for index in missing if index not in found]
        paths = [f"{self._root}/{parts[index].name}" for index in asked]
        # A whole file, which may be empty, is asked for without a range.
        starts = [parts[index].start or None for index in asked]
        ends = [parts[index].end for index in asked]
        with storage_errors("cannot read", self.uri):
            # Not cat, which would expand patterns in names.
            answers = self._filesystem.cat_ranges(paths, starts, ends, on_error="return")
        failures: list[Exception] = []
        for index, answer in zip(asked, answers, strict=True):
            if isinstance(answer, FileNotFoundError):
                raise answer
            if isinstance(answer, Exception):
                failures.append(explained(answer, "cannot read", self.shown(parts[index].name)))
            else:
                found[index] = bytes(answer)
        for failure in sorted(failures, key=lambda each: isinstance(each, TransientError)):
            raise failure

    def sizes(self, folder: str, prefix: str = "") -> dict[str, int]:
        """List the files directly inside a folder, on S3 by their prefix."""
        check_name(folder, self.uri)
        path = f"{self._root}/{folder}".rstrip("/")

        def listed() -> list[dict[str, Any]]:
            with storage_errors("cannot list", self.shown(folder)):
                try:
                    # Other file systems of fsspec refuse a prefix.
                    if prefix and "s3" in self._filesystem.protocol:
                        found = self._filesystem.find(path, maxdepth=1, detail=True, prefix=prefix)
                        return list(found.values())
                    return list(self._filesystem.ls(path, detail=True))
                except FileNotFoundError:
                    return []

        return {
            (f"{folder}/" if folder else "") + name: int(entry["size"] or 0)
            for entry in sorted(retrying(listed), key=lambda entry: str(entry["name"]))
            if entry["type"] == "file"
            and (name := str(entry["name"]).rpartition("/")[2])
            and name.startswith(prefix)
            and not name.startswith(".")
        }

    def tree(self) -> dict[str, int]:
        """List all files below the folder."""

        def listed() -> dict[str, dict[str, Any]]:
            with storage_errors("cannot list", self.uri):
                try:
                    found: dict[str, dict[str, Any]] = self._filesystem.find(
                        self._root, detail=True
                    )
                    return found
                except FileNotFoundError:
                    return {}

        start = len(self._root.strip("/")) + 1
        return {
            name: int(entry["size"] or 0)
            for path, entry in sorted(retrying(listed).items())
            if (name := path.strip("/")[start:])
        }

    def delete(self, name: str) -> None:
        """Remove a file if it exists."""
        check_name(name, self.uri)

        def remove() -> None:
            with (
                storage_errors("cannot delete", self.shown(name)),
                contextlib.suppress(FileNotFoundError),
            ):
                self._filesystem.rm_file(f"{self._root}/{name}")

        retrying(remove)

    def check_writable(self) -> None:
        """Check that a file can be put and removed."""
        # Only a PUT shows whether an object store is writable.
        probe = f".restyle-probe-{secrets.token_hex(4)}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except TransientError as error:
            raise FatalError(str(error)) from error
