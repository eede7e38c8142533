"""Who gets an output when several want it, here and on machines that can only be watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.claim import Claim, born, own_claim
from restyle.pipeline.storage.filesystem import Storage, open_storage
from restyle.pipeline.storage.lock import DriverLock, driver_lock

BEAT = 0.1


class Notes(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return open_storage(
        str(tmp_path / "out") if request.param == "local" else f"memory://lock{tmp_path}"
    )


def claims(storage: Storage) -> list[str]:
    return [name for name in storage.sizes("_ledger") if "driver-" in name]


def put(storage: Storage, **fields: object) -> Claim:
    """A claim as another driver would have written it."""
    claim = own_claim().model_copy(update={"nonce": "f" * 16, **fields})
    storage.write(claim.name, claim.model_dump_json().encode())
    return claim


class Elsewhere:
    """A driver on another machine, which lives as long as it rewrites its claim."""

    def __init__(self, storage: Storage, state: str, nonce: str) -> None:
        self._storage = storage
        self._fields = {"state": state, "nonce": nonce, "place": "another", "host": "far"}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._live)
        put(storage, **self._fields)
        self._thread.start()

    def _live(self) -> None:
        beat = 0
        while not self._ending.wait(BEAT):
            beat += 1
            put(self._storage, **self._fields, beat=beat)

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()


def test_it_is_quick_and_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    began = time.perf_counter()
    with driver_lock(storage, Listener()) as held:
        seconds = time.perf_counter() - began
        held.check()
        (name,) = claims(storage)
        written = json.loads(storage.read(name))
        assert (written["state"], written["pid"]) == ("held", os.getpid())
    assert claims(storage) == []
    assert not (tmp_path / "out").exists()
    assert seconds < 0.5


def test_an_empty_folder_of_the_user_stays(tmp_path: Path) -> None:
    with driver_lock(open_storage(str(tmp_path)), Listener()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_second_is_refused_at_once_and_the_first_is_named(storage: Storage) -> None:
    with (
        driver_lock(storage, Listener()),
        pytest.raises(SpecError, match=f"process {os.getpid()} on .*, started 20") as caught,
        driver_lock(storage, Listener()),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert claims(storage) == []


def test_a_process_that_ended_is_known_for_dead_at_once(storage: Storage) -> None:
    # A number that was given to another process since, and one that nobody has.
    put(storage, state="held", nonce="a" * 16, born="1")
    process = subprocess.Popen([sys.executable, "-c", ""])
    ticks = born(process.pid)
    put(storage, state="held", nonce="b" * 16, pid=process.pid, born=ticks or "1")
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    notes = Notes()
    # Not waited for by its parent, so that the kernel still lists it.
    with driver_lock(storage, notes, beat=60):
        assert len(claims(storage)) == 1
    assert notes.lines == []
    process.wait()


def test_what_this_process_could_not_give_back_is_not_in_its_way(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise FatalError("access denied")

    with monkeypatch.context() as patch, driver_lock(storage, Listener()):
        patch.setattr(type(storage), "delete", refuse)
    assert len(claims(storage)) == 1
    with driver_lock(storage, Listener(), beat=60) as held:
        held.check()
        assert len(claims(storage)) == 1


def test_a_dead_driver_elsewhere_is_waited_for(storage: Storage) -> None:
    put(storage, state="held", place="another", host="far")
    notes = Notes()
    began = time.monotonic()
    with driver_lock(storage, notes, beat=BEAT):
        assert time.monotonic() - began >= BEAT * 3
        assert len(claims(storage)) == 1
    assert ["far" in line for line in notes.lines] == [True]


@pytest.mark.parametrize("state", ["held", "asking"])
def test_a_living_driver_elsewhere_is_not_disturbed(storage: Storage, state: str) -> None:
    # The smallest nonce there is: of two that ask, this one goes first.
    other = Elsewhere(storage, state, "0" * 16)
    try:
        with (
            pytest.raises(SpecError, match=r"in use by another run: process \d+ on far"),
            driver_lock(storage, Listener(), beat=BEAT),
        ):
            pass
        assert claims(storage) == ["_ledger/driver-0000000000000000.json"]
    finally:
        other.stop()


def test_of_two_that_ask_the_larger_nonce_is_waited_out(storage: Storage) -> None:
    other = Elsewhere(storage, "asking", "f" * 16)

    def withdraw() -> None:
        while len(claims(storage)) < 2:
            time.sleep(0.01)
        time.sleep(4 * BEAT)
        states = {json.loads(storage.read(name))["state"] for name in claims(storage)}
        seen.append(states)
        other.stop()
        storage.delete(f"_ledger/driver-{'f' * 16}.json")

    seen: list[set[str]] = []
    thread = threading.Thread(target=withdraw)
    thread.start()
    with driver_lock(storage, Listener(), beat=BEAT):
        assert seen == [{"asking"}]
    thread.join()


def test_a_damaged_claim_does_not_block_for_ever(storage: Storage) -> None:
    storage.write("_ledger/driver-x.json", b"{")
    with driver_lock(storage, Listener(), beat=BEAT):
        assert len(claims(storage)) == 1


def lost(held: DriverLock) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            held.check()
        except FatalError as error:
            return "another run has taken over" in str(error)
        time.sleep(0.01)
    return False


def test_a_driver_whose_claim_was_removed_stops(storage: Storage) -> None:
    with driver_lock(storage, Listener(), beat=BEAT) as held:
        storage.delete(claims(storage)[0])
        assert lost(held)


def test_one_that_was_taken_for_dead_and_wakes_in_the_middle_of_a_beat(storage: Storage) -> None:
    dead = put(storage, state="held", place="another")
    with driver_lock(storage, Listener(), beat=BEAT) as held:
        # It had read its claim before it was removed, and writes it again.
        storage.write(dead.name, dead.model_dump_json().encode())
        deadline = time.monotonic() + 10
        while dead.name in claims(storage):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        held.check()


def test_many_at_once_and_never_two_inside(storage: Storage) -> None:
    inside: list[int] = []
    most: list[int] = []
    won: list[int] = []
    start = threading.Barrier(8)

    def drive(number: int) -> None:
        start.wait()
        try:
            with driver_lock(storage, Listener(), beat=5):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.05)
                inside.remove(number)
                won.append(number)
        except SpecError:
            pass

    for _ in range(4):
        threads = [threading.Thread(target=drive, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(most) == {1}
    assert len(won) >= 4
    assert claims(storage) == []
