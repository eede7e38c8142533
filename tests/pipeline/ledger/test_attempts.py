from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from restyle.pipeline.ledger import attempts
from restyle.pipeline.ledger.attempts import Admission, Attempts
from restyle.pipeline.storage.filesystem import open_storage

PATIENCE = 30


def test_tries_are_counted_across_workers(tmp_path: Path) -> None:
    first = Attempts(open_storage(str(tmp_path)))
    assert first.failed("000001-aa") == 0
    first.begin("000001-aa", 1)
    first.begin("000002-bb", 1)
    # A worker that took over from one that died.
    second = Attempts(open_storage(str(tmp_path)))
    assert second.failed("000001-aa") == 1
    second.begin("000001-aa", 2)
    assert (second.failed("000001-aa"), second.failed("000002-bb")) == (2, 1)
    second.end("000001-aa")
    second.end("000001-aa")
    assert (first.failed("000001-aa"), first.failed("000002-bb")) == (0, 1)


def test_a_damaged_count_is_one_try(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    for data in (b"", b"{", b"[]", b'{"tries": "x"}'):
        storage.write("_ledger/try-u.json", data)
        assert Attempts(storage).failed("u") == 1


def test_sweeping_keeps_what_is_pending(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.write("_ledger/unit-a.json", b"{}")
    tries = Attempts(storage)
    for unit in ("a", "b"):
        tries.begin(unit, 4)
    names = list(storage.sizes("_ledger"))
    assert attempts.among(names) == ["_ledger/try-a.json", "_ledger/try-b.json"]
    attempts.sweep(storage, names, {"b"})
    assert sorted(storage.sizes("_ledger")) == ["_ledger/try-b.json", "_ledger/unit-a.json"]


class Room:
    """Knows who is inside at the same time."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.changed = threading.Condition()
        self.inside: list[str] = []
        self.seen: list[tuple[str, ...]] = []

    def visit(self, name: str, until: threading.Event, *, alone: bool = False) -> None:
        with self.admission.admitted(alone=alone):
            with self.changed:
                self.inside.append(name)
                self.seen.append(tuple(self.inside))
                self.changed.notify_all()
            assert until.wait(PATIENCE)
            with self.changed:
                self.inside.remove(name)

    def wait_for(self, *names: str) -> None:
        """Wait until these are inside, in any order, and no one else."""
        with self.changed:
            assert self.changed.wait_for(lambda: sorted(self.inside) == sorted(names), PATIENCE)


def test_one_that_wants_to_be_alone_is_and_is_not_starved() -> None:
    admission = Admission()
    room = Room(admission)
    first, rest = threading.Event(), threading.Event()
    with ThreadPoolExecutor(5) as pool:
        visits = [pool.submit(room.visit, name, first) for name in ("a", "b")]
        room.wait_for("a", "b")
        visits.append(pool.submit(room.visit, "alone", rest, alone=True))
        with admission._changed:
            # Who begins to wait tells no one.
            while not admission._alone:
                admission._changed.wait(0.01)
        # Comes later, and must wait for the one that waits.
        visits.append(pool.submit(room.visit, "c", rest))
        first.set()
        room.wait_for("alone")
        rest.set()
        for visit in visits:
            visit.result(PATIENCE)
    assert max(len(seen) for seen in room.seen[:2]) == 2
    assert room.seen[2:] == [("alone",), ("c",)]


def test_two_that_want_to_be_alone_take_turns() -> None:
    room = Room(Admission())
    done = threading.Event()
    done.set()
    with ThreadPoolExecutor(4) as pool:
        visits = [pool.submit(room.visit, str(n), done, alone=n % 2 == 0) for n in range(40)]
        for visit in visits:
            visit.result(PATIENCE)
    for seen in room.seen:
        assert len(seen) == 1 or all(int(name) % 2 for name in seen)
