"""Attempt counts per unit, so that a unit that repeatedly kills its worker is rejected.

A worker writes ``_ledger/try-<unit>.json`` before it computes a unit and deletes the file after
the commit. A unit with several failed attempts is computed alone, so that units that ran
concurrently with it are not rejected for its crashes.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Collection, Iterable, Iterator

from restyle.core.files import parse_json
from restyle.pipeline.ledger import entries as ledger
from restyle.pipeline.storage.filesystem import Storage

MAX_TRIES = 10
"""Number of attempts after which all inputs of a unit are rejected."""

ALONE_FROM = 3
"""Number of failed attempts from which a worker computes a unit without concurrent units."""

_PREFIX = f"{ledger.FOLDER}/try-"
_SUFFIX = ".json"


class Attempts:
    """Counts the attempts at each unit of an output, across workers and runs.

    Args:
        storage: the output.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def failed(self, unit: str) -> int:
        """Return the number of recorded attempts at a unit without a commit."""
        try:
            data = self._storage.read(_name(unit))
        except FileNotFoundError:
            return 0
        try:
            return max(0, int(parse_json(data)["tries"]))
        except (ValueError, KeyError, TypeError):
            # A crash truncated the file, so at least one attempt was made.
            return 1

    def begin(self, unit: str, number: int) -> None:
        """Record the start of an attempt; ``number`` counts from 1."""
        self._storage.write(_name(unit), json.dumps({"tries": number}).encode())

    def take_back(self, unit: str, failed: int) -> None:
        """Undo :meth:`begin`; ``failed`` is the number of earlier attempts."""
        if failed:
            self.begin(unit, failed)
        else:
            self.end(unit)

    def end(self, unit: str) -> None:
        """Delete the count of a committed unit."""
        self._storage.delete(_name(unit))


def among(names: Iterable[str]) -> list[str]:
    """Select the attempt files among names of ledger files."""
    return [name for name in names if name.startswith(_PREFIX)]


def sweep(storage: Storage, names: Iterable[str], pending: Collection[str]) -> None:
    """Delete the counts of units that are not pending, left by workers that died after a commit.

    Args:
        storage: the output.
        names: names of the files in its ledger.
        pending: names of the pending units.
    """
    for name in among(names):
        if name.removeprefix(_PREFIX).removesuffix(_SUFFIX) not in pending:
            storage.delete(name)


class Admission:
    """Lock that admits units concurrently, or one unit exclusively; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = 0

    @contextlib.contextmanager
    def admitted(self, *, alone: bool) -> Iterator[None]:
        """Wait for admission; a waiting ``alone`` caller blocks new callers that are not alone."""
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
