"""Lock for a single driver of an output, on any storage that can write, list and delete.

Every driver first writes a claim, ``_ledger/driver-<nonce>.json``, and then looks for other claims,
so that of two simultaneous drivers at least one sees the other. A claim is *asking* until its
driver sees no other claim, and *held* afterwards. A driver that finds a live held claim withdraws;
of two asking drivers, the one with the larger nonce withdraws and the other one waits for it.
Whether a driver on this machine is alive is known from the kernel. A driver elsewhere proves that
it is alive by rewriting its claim with an increasing count (heartbeat). Intervals are measured by
this process's monotonic clock, so that clocks may differ and jump.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from restyle.core.errors import FatalError, RestyleError, SpecError
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.claim import (
    BEAT,
    FOLDER,
    MISSED,
    NAME,
    Claim,
    born,
    decoded,
    encoded,
    now,
    own_claim,
)
from restyle.pipeline.storage.filesystem import Storage

_POLL = 0.25

# Nonces of this process's claims. Another claim with this process's number is a leftover from a
# storage that could not be reached when its lock was released.
_own: set[str] = set()
_PATIENCE = 5.0


class DriverLock:
    """The exclusive right to plan, run and rearrange an output, until the ``with`` block ends."""

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
        """Check that the lock is still held, without storage requests; for calls at every unit.

        Raises:
            FatalError: another driver took this one for dead and removed its claim.
        """
        if self._lost.is_set():
            raise FatalError(
                f"another run has taken over {self._storage.uri}, because this one gave no sign "
                f"of life for {self._beat * MISSED:g} seconds; what is done is kept, run the same "
                "command again when the other has ended"
            )

    def confirm(self) -> None:
        """Check the claim in the storage; for calls before files are removed.

        Raises:
            FatalError: as :meth:`check`, or the storage failed.
            TransientError: the storage failed.
        """
        try:
            self._storage.read(self._claim.name)
        except FileNotFoundError:
            self._lost.set()
        self.check()

    def acquire(self, listener: Listener) -> None:
        """Write the claim, and wait until it is the only one.

        Raises:
            SpecError: another driver holds the output, or is about to.
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
            # A heartbeat in progress would write the claim again.
            self._thread.join(_PATIENCE)
        _own.discard(self._claim.nonce)
        # A remaining claim is recognised as dead; a failure here must not hide the run's error.
        with contextlib.suppress(RestyleError):
            self._storage.delete(self._claim.name)
            self._storage.prune([FOLDER])

    def _others(self, watch: _Watch) -> list[Claim]:
        """Claims of drivers that may be alive; claims of dead drivers are removed."""
        others = []
        for name in self._storage.sizes(FOLDER, NAME):
            if name == self._claim.name:
                continue
            with contextlib.suppress(FileNotFoundError):
                other = decoded(name, self._storage.read(name))
                if watch.is_dead(other):
                    self._storage.delete(name)
                    self._dead.append(name)
                else:
                    others.append(other)
        return others

    def _write(self, **changes: object) -> None:
        with self._writing:
            self._claim = self._claim.model_copy(update={**changes, "seen": now()})
            self._storage.write(self._claim.name, encoded(self._claim))

    def _keep_beating(self) -> None:
        while not self._ending.wait(self._beat):
            # Failures of the storage are reported by the units.
            with contextlib.suppress(RestyleError):
                try:
                    self._storage.read(self._claim.name)
                except FileNotFoundError:
                    self._lost.set()
                    return
                self._write(beat=self._claim.beat + 1)
                for name in self._dead:
                    # A suspended driver may continue in the middle of a heartbeat and write its
                    # claim again.
                    self._storage.delete(name)


@contextlib.contextmanager
def driver_lock(
    storage: Storage, listener: Listener, *, beat: float = BEAT
) -> Iterator[DriverLock]:
    """Lock an output for a single driver.

    On local storage this takes a few milliseconds. For a driver that died elsewhere it waits
    :data:`MISSED` times ``beat`` seconds.

    Args:
        storage: the output.
        listener: receives a note before waiting.
        beat: seconds between two heartbeats, the same for all drivers of an output.

    Raises:
        SpecError: another driver holds the output; the message names it.
    """
    lock = DriverLock(storage, own_claim(), beat)
    try:
        lock.acquire(listener)
        yield lock
    finally:
        lock.release()


@dataclass
class _Seen:
    """A claim from elsewhere: its last count, when it was first seen, and whether it ever rose."""

    beat: int
    since: float
    rose: bool = False


class _Watch:
    """Determines which drivers are alive."""

    def __init__(self, beat: float) -> None:
        self._limit = beat * MISSED
        self._seen: dict[str, _Seen] = {}

    def is_dead(self, claim: Claim) -> bool:
        """Whether the driver is certainly dead: by the kernel, or for lack of heartbeats."""
        if claim.is_here and claim.pid == os.getpid():
            return claim.nonce not in _own
        if claim.is_here:
            return born(claim.pid) != claim.born
        now = time.monotonic()
        seen = self._seen.setdefault(claim.nonce, _Seen(claim.beat, now))
        if claim.beat != seen.beat:
            self._seen[claim.nonce] = seen = _Seen(claim.beat, now, rose=True)
        return now - seen.since > self._limit

    def lives(self, claim: Claim) -> bool:
        """Whether the driver is certainly alive; :meth:`is_dead` must have been called before."""
        return claim.is_here or self._seen[claim.nonce].rose
