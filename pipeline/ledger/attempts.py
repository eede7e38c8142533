"""Tries: how often a unit's inversion was begun, so that one that kills its worker is given up.

``_ledger/try-<unit>.json`` is written before a unit is computed and deleted once it is committed.
A unit whose earlier tries ended without an entry is computed alone, so that others that were in
work beside it do not share its fate for ever.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Collection, Iterable, Iterator

from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.storage.filesystem import Storage

MAX_TRIES = 10
"""Tries after which a unit's images become rejects."""

ALONE_FROM = 3
"""Failed tries after which a unit is computed with no other beside it in its worker."""

_PREFIX = f"{ledger.FOLDER}/try-"
_SUFFIX = ".json"


class Attempts:
    """Counts the tries of units in an output, across workers and runs.

    Args:
        storage: the output.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def failed(self, unit: str) -> int:
        """Tries that were begun and did not end in an entry, as far as is known."""
        try:
            data = self._storage.read(_name(unit))
        except FileNotFoundError:
            return 0
        try:
            return max(0, int(json.loads(data)["tries"]))
        except (ValueError, KeyError, TypeError):
            # Cut off by a crash of the machine: it was tried at least once.
            return 1

    def begin(self, unit: str, number: int) -> None:
        """Record that a try begins; 1 is the first."""
        self._storage.write(_name(unit), json.dumps({"tries": number}).encode())

    def take_back(self, unit: str, failed: int) -> None:
        """Forget that a try was begun; so many before it failed."""
        if failed:
            self.begin(unit, failed)
        else:
            self.end(unit)

    def end(self, unit: str) -> None:
        """Forget a unit, which has been committed."""
        self._storage.delete(_name(unit))


def among(names: Iterable[str]) -> list[str]:
    """Those files of the ledger that tell of units that are being tried."""
    return [name for name in names if name.startswith(_PREFIX)]


def sweep(storage: Storage, names: Iterable[str], pending: Collection[str]) -> None:
    """Forget units that are not pending; a worker that died after its commit left them.

    Args:
        storage: the output.
        names: the files of its ledger.
        pending: names of units.
    """
    for name in among(names):
        if name.removeprefix(_PREFIX).removesuffix(_SUFFIX) not in pending:
            storage.delete(name)


class Admission:
    """Lets units be computed beside each other, or one alone; safe for several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = 0

    @contextlib.contextmanager
    def admitted(self, *, alone: bool) -> Iterator[None]:
        """Wait until there is room; whoever wants to be alone goes before those who do not."""
        with self._changed:
            if alone:
                self._alone += 1
                self._changed.wait_for(lambda: not self._inside)
            else:
                self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._alone -= alone
                self._changed.notify_all()


def _name(unit: str) -> str:
    return f"{_PREFIX}{unit}{_SUFFIX}"
