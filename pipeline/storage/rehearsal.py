"""A storage that is changed in memory alone, to find out what a change would come to."""

from __future__ import annotations

from restyle.pipeline.storage.filesystem import Storage


class Rehearsal(Storage):
    """Shows a storage as if it had been changed; the storage itself is only read.

    Args:
        storage: what is shown.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._changed: dict[str, bytes | str | None] = {}
        self.uri = storage.uri

    def write(self, name: str, data: bytes) -> None:
        """As documented in :class:`Storage`."""
        self._changed[name] = data

    def read(self, name: str) -> bytes:
        """As documented in :class:`Storage`."""
        found = self._changed.get(name, name)
        if found is None:
            raise FileNotFoundError(name)
        return self._storage.read(found) if isinstance(found, str) else found

    def sizes(self, folder: str) -> dict[str, int]:
        """As documented in :class:`Storage`; what was moved here has no size."""
        gone = {name for name, found in self._changed.items() if found is None}
        # A folder that is moved as a whole is a link.
        found = {} if folder in gone else self._storage.sizes(folder)
        for name, data in self._changed.items():
            if name.rpartition("/")[0] == folder:
                found[name] = len(data) if isinstance(data, bytes) else 0
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
