"""A storage with changes in memory only, to compute the effect of a change."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from restyle.pipeline.storage.filesystem import Part, Storage


class Rehearsal(Storage):
    """A view of a storage with changes in memory; the storage itself is only read.

    Args:
        storage: the underlying storage.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._changed: dict[str, bytes | str | None] = {}
        self.address, self.uri = storage.address, storage.uri

    def write(self, name: str, data: bytes) -> None:
        """As documented in :class:`Storage`."""
        self._changed[name] = data

    def read_parts(self, parts: Sequence[Part]) -> list[bytes]:
        """As documented in :class:`Storage`."""
        return [self._read(part) for part in parts]

    def _read(self, part: Part) -> bytes:
        found = self._changed.get(part.name, part.name)
        if found is None:
            raise FileNotFoundError(part.name)
        if isinstance(found, str):
            return self._storage.read_parts([dataclasses.replace(part, name=found)])[0]
        return found[part.start : part.end]

    def sizes(self, folder: str, prefix: str = "") -> dict[str, int]:
        """As documented in :class:`Storage`; moved files have size 0."""
        gone = {name for name, found in self._changed.items() if found is None}
        # Only links are moved as whole folders.
        found = {} if folder in gone else self._storage.sizes(folder)
        for name, data in self._changed.items():
            if name.rpartition("/")[0] == folder:
                found[name] = len(data) if isinstance(data, bytes) else 0
        return {
            name: found[name]
            for name in sorted(found.keys() - gone)
            if name.rpartition("/")[2].startswith(prefix)
        }

    def tree(self) -> dict[str, int]:
        """As documented in :class:`Storage`; changed files have size 0."""
        found = self._storage.tree() | dict.fromkeys(self._changed, 0)
        gone = {name for name, data in self._changed.items() if data is None}
        return {name: found[name] for name in sorted(found.keys() - gone)}

    def move(self, name: str, target: str) -> None:
        """As documented in :class:`Storage`."""
        self._changed[target] = self._changed.get(name, name)
        self._changed[name] = None

    def delete(self, name: str) -> None:
        """As documented in :class:`Storage`."""
        self._changed[name] = None

    def is_link(self, name: str) -> bool:
        """As documented in :class:`Storage`."""
        found = self._changed.get(name, name)
        return isinstance(found, str) and self._storage.is_link(found)

    def check_writable(self) -> None:
        """As documented in :class:`Storage`."""
        self._storage.check_writable()
