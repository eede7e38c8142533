"""Claims of drivers to an output: a small file for each process that plans or runs it.

A driver rewrites its claim every few seconds, so that the file of a driver that was killed tells
until when it lived.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from restyle.pipeline.storage.filesystem import Storage

BEAT = 10.0
"""Seconds between two heartbeats."""

MISSED = 3
"""Number of missed heartbeats after which a driver elsewhere counts as dead."""

FOLDER, NAME = "_ledger", "driver-"
"""Folder of the claims, and how their names begin."""

_PREFIX = f"{FOLDER}/{NAME}"
_SUFFIX = ".json"


class Claim(BaseModel):
    """A driver's claim to an output.

    Attributes:
        format: version of the file.
        nonce: 16 random hex digits, also in the file's name.
        state: ``asking`` or ``held``.
        host: name of its machine, for messages.
        place: boot and process namespace of ``pid``; empty if unknown.
        pid: of the process.
        born: start of the process in kernel ticks, to recognise a reused ``pid``.
        started: time of the claim, for messages.
        beat: number of heartbeats.
        seen: time of the last heartbeat, ISO 8601 in UTC; empty in claims of earlier versions.
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
    seen: str = ""

    @property
    def name(self) -> str:
        """The claim's file, relative to the output."""
        return f"{_PREFIX}{self.nonce}{_SUFFIX}"

    @property
    def is_here(self) -> bool:
        """Whether the driver runs, or ran, on this machine, whose kernel knows its processes."""
        here = place()
        return bool(here) and self.place == here

    @property
    def lives(self) -> bool:
        """Whether the driver is alive, judged at once, for people who look.

        A driver elsewhere counts as dead once its last heartbeat is :data:`MISSED` beats old. That
        compares two machines' clocks, so that nothing may be decided by it.
        """
        if self.is_here:
            return born(self.pid) == self.born
        if not self.seen:
            return True
        age = datetime.now(UTC) - datetime.fromisoformat(self.seen)
        return age <= timedelta(seconds=BEAT * MISSED)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


def own_claim() -> Claim:
    """Return a new claim of this process."""
    return Claim(
        nonce=secrets.token_hex(8),
        state="asking",
        host=socket.gethostname(),
        place=place(),
        pid=os.getpid(),
        born=born(os.getpid()),
        started=now(),
        seen=now(),
    )


def now() -> str:
    """Return the current time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_claims(storage: Storage) -> list[Claim]:
    """Read the claims to an output, also those that drivers who were killed have left."""
    found = []
    for name in storage.sizes(FOLDER, NAME):
        # A driver that ends removes its claim.
        with contextlib.suppress(FileNotFoundError):
            found.append(decoded(name, storage.read(name)))
    return found


def place() -> str:
    """Identifier of the machine's boot and process namespace, which containers do not share."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (no path, a label)
    except OSError:
        return ""


def born(pid: int) -> str:
    """Start of a process in clock ticks since boot; empty if it has ended or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # The name in parentheses may contain blanks and parentheses.
    fields = stat.rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def encoded(claim: Claim) -> bytes:
    """Return the content of a claim's file."""
    return claim.model_dump_json(indent=1).encode()


def decoded(name: str, data: bytes) -> Claim:
    """Return the claim in a file; a made-up one if the file is damaged."""
    try:
        return Claim.model_validate_json(data)
    except ValidationError:
        # A damaged claim is watched like one from elsewhere, and removed if it does not change.
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
