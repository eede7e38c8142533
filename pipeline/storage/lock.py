"""One driver for each output, on any storage that can write, list and delete: no server needed.

Every driver writes a claim, ``_ledger/driver-<nonce>.json``, and only then looks for others', so
that of two that start at once at least one sees the other. A claim is *asking* until its driver has
seen no other, and *held* from then on. A driver that meets a live held claim withdraws; of two that
are asking, the one with the larger nonce withdraws and the other waits until it is gone. Whether a
claim's driver lives is asked of the kernel where it runs on this machine. Elsewhere its claim is
watched: a living driver rewrites it with a higher count. Time is only ever measured by this
process' own monotonic clock, so clocks that differ or jump change nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from restyle.core.errors import FatalError, RestyleError, SpecError
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import Storage

BEAT = 10.0
"""Seconds between two signs of life."""

MISSED = 3
"""Signs of life that must fail to come before a driver elsewhere counts as dead."""

_PREFIX = "_ledger/driver-"
_SUFFIX = ".json"
_POLL = 0.25

# Claims of this process that were not given back yet. Another one with its number is left from a
# storage that could not be reached when the lock was released.
_own: set[str] = set()
_PATIENCE = 5.0


class Claim(BaseModel):
    """What a driver says of itself.

    Attributes:
        format: version of this file.
        nonce: 16 hex digits of chance, also in the file's name.
        state: ``asking`` or ``held``.
        host: name of its machine, for people.
        place: boot and process table that ``pid`` is a number in; empty where that is unknown.
        pid: of the process.
        born: when the process began, in the kernel's own count; tells a reused ``pid``.
        started: when it asked, for people; never compared.
        beat: rises while the driver lives.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    nonce: str
    state: Literal["asking", "held"]
    host: str
    place: str
    pid: int
    born: str
    started: str
    beat: int = 0

    @property
    def name(self) -> str:
        """The claim's file, relative to the output."""
        return f"{_PREFIX}{self.nonce}{_SUFFIX}"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


class DriverLock:
    """The right to plan, run and rearrange one output, held until the ``with`` block ends."""

    def __init__(self, storage: Storage, claim: Claim, beat: float) -> None:
        self._storage = storage
        self._claim = claim
        self._writing = threading.Lock()
        self._beat = beat
        self._dead: list[str] = []
        self._lost = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="driver-beat", daemon=True)

    def check(self) -> None:
        """Make sure that the lock is still held; costs nothing, so call it at every unit.

        Raises:
            FatalError: this driver was taken for dead, and its claim was removed.
        """
        if self._lost.is_set():
            raise FatalError(
                f"another run has taken over {self._storage.uri}, because this one gave no sign "
                f"of life for {self._beat * MISSED:g} seconds; what is done is kept, run the same "
                "command again when the other has ended"
            )

    def confirm(self) -> None:
        """Make sure by a look at the storage; to be called before anything is removed.

        Raises:
            FatalError: as :meth:`check`, or the storage cannot be asked.
            TransientError: the storage cannot be asked.
        """
        try:
            self._storage.read(self._claim.name)
        except FileNotFoundError:
            self._lost.set()
        self.check()

    def acquire(self, listener: Listener) -> None:
        """Write the claim, and wait until it is the only one.

        Raises:
            SpecError: another driver has the output, or is about to.
        """
        _own.add(self._claim.nonce)
        self._write(state="asking")
        self._thread.start()
        watch = _Watch(self._beat)
        told = False
        while others := self._others(watch):
            for other in others:
                if watch.lives(other) and (
                    other.state == "held" or other.nonce < self._claim.nonce
                ):
                    raise SpecError(
                        f"{self._storage.uri} is in use by another run: {other}; wait for it to "
                        "end, or stop it"
                    )
            if not told:
                told = True
                listener.noted(
                    f"{self._storage.uri} is claimed by {others[0]}; waiting up to "
                    f"{self._beat * MISSED:g} s to see whether it lives"
                )
            time.sleep(min(_POLL, self._beat / 4))
        self._write(state="held")

    def release(self) -> None:
        """Give the output back."""
        self._ending.set()
        if self._thread.is_alive():
            # A beat that is being written would bring the claim back.
            self._thread.join(_PATIENCE)
        _own.discard(self._claim.nonce)
        # What is left is known for dead by the next driver; it must not hide why this one ends.
        with contextlib.suppress(RestyleError):
            self._storage.delete(self._claim.name)
            if not self._storage.sizes("_ledger"):
                self._storage.prune(["_ledger"])

    def _others(self, watch: _Watch) -> list[Claim]:
        """Claims of drivers that live or may live; those of dead ones are removed."""
        others = []
        for name in self._storage.sizes("_ledger"):
            if not name.startswith(_PREFIX) or name == self._claim.name:
                continue
            with contextlib.suppress(FileNotFoundError):
                other = _decoded(name, self._storage.read(name))
                if watch.is_dead(other):
                    self._storage.delete(name)
                    self._dead.append(name)
                else:
                    others.append(other)
        return others

    def _write(self, **changes: object) -> None:
        with self._writing:
            self._claim = self._claim.model_copy(update=changes)
            self._storage.write(self._claim.name, _encoded(self._claim))

    def _keep_beating(self) -> None:
        while not self._ending.wait(self._beat):
            # A storage that fails for the moment fails the units too, and they tell of it.
            with contextlib.suppress(RestyleError):
                try:
                    self._storage.read(self._claim.name)
                except FileNotFoundError:
                    self._lost.set()
                    return
                self._write(beat=self._claim.beat + 1)
                for name in self._dead:
                    # A driver taken for dead may wake up in the middle of a beat and write its
                    # claim again; it must find it gone.
                    self._storage.delete(name)


@contextlib.contextmanager
def driver_lock(
    storage: Storage, listener: Listener, *, beat: float = BEAT
) -> Iterator[DriverLock]:
    """Be the only driver of an output.

    On storage of this machine that takes a few milliseconds. A driver that died elsewhere is waited
    for :data:`MISSED` times ``beat`` seconds.

    Args:
        storage: the output.
        listener: is told when there is something to wait for.
        beat: seconds between two signs of life, the same for all drivers of an output.

    Raises:
        SpecError: another driver has the output; names it.
    """
    lock = DriverLock(storage, _own_claim(), beat)
    try:
        lock.acquire(listener)
        yield lock
    finally:
        lock.release()


@dataclass
class _Seen:
    """A claim from elsewhere: its last count, since when it is known, whether it ever rose."""

    beat: int
    since: float
    rose: bool = False


class _Watch:
    """Judges which drivers live."""

    def __init__(self, beat: float) -> None:
        self._limit = beat * MISSED
        self._seen: dict[str, _Seen] = {}
        self._place = _place()

    def is_dead(self, claim: Claim) -> bool:
        """Certainly dead: the kernel says so, or no sign of life for too long."""
        if self._is_here(claim) and claim.pid == os.getpid():
            return claim.nonce not in _own
        if self._is_here(claim):
            return _born(claim.pid) != claim.born
        now = time.monotonic()
        seen = self._seen.setdefault(claim.nonce, _Seen(claim.beat, now))
        if claim.beat != seen.beat:
            self._seen[claim.nonce] = seen = _Seen(claim.beat, now, rose=True)
        return now - seen.since > self._limit

    def lives(self, claim: Claim) -> bool:
        """Certainly alive, for one that :meth:`is_dead` has looked at."""
        return self._is_here(claim) or self._seen[claim.nonce].rose

    def _is_here(self, claim: Claim) -> bool:
        return bool(self._place) and claim.place == self._place


def _own_claim() -> Claim:
    return Claim(
        nonce=secrets.token_hex(8),
        state="asking",
        host=socket.gethostname(),
        place=_place(),
        pid=os.getpid(),
        born=_born(os.getpid()),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _place() -> str:
    """Names this boot of this machine and this process table; containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (no path, a label)
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Start of a process in clock ticks since boot; empty when there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # The name in parentheses may hold anything, blanks and parentheses included.
    fields = stat.rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _encoded(claim: Claim) -> bytes:
    return claim.model_dump_json(indent=1).encode()


def _decoded(name: str, data: bytes) -> Claim:
    try:
        return Claim.model_validate_json(data)
    except ValidationError:
        # Damaged: nobody can be asked, so it is watched, and removed when it does not change.
        return Claim(
            nonce=name.removeprefix(_PREFIX).removesuffix(_SUFFIX),
            state="held",
            host="an unknown machine",
            place="",
            pid=0,
            born="",
            started="at an unknown time",
            beat=hash(data),
        )
