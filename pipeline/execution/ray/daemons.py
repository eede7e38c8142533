"""Ray's own processes: detection of their death, and their end.

Without the detection connections to a dead process hang for a minute, and then Ray ends the process
that is connected.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from restyle.pipeline.execution.watchdog import Stalled

# Names in /proc have at most 15 characters.
_NAMES = ("gcs_server", "raylet")

_ANSWER_SECONDS = 10.0

# Seconds without an answer after which the head counts as lost; a restart, as on Kubernetes, takes
# less.
_AWAY_SECONDS = 40.0


def end_descendants(patience: float = 10.0) -> None:
    """Kill all descendants of this process, and wait for their end.

    Workers whose raylet was killed end by themselves, but may commit a unit before.

    Args:
        patience: seconds to wait at most.
    """
    children = defaultdict(list)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may contain any character.
            fields = (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            children[int(fields[1])].append(int(process.name))
    ending = select.poll()
    descriptors = set()
    # Parents first, so that a raylet starts no worker again.
    found = children[os.getpid()]
    for number in found:
        found += children[number]
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(number)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            ending.register(descriptor, select.POLLIN)
            descriptors.add(descriptor)
    deadline = time.monotonic() + patience
    while descriptors and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in ending.poll(left * 1000):
            ending.unregister(descriptor)
            os.close(descriptor)
            descriptors.remove(descriptor)


class LocalDaemons:
    """The processes of a cluster that this process has started.

    Args:
        folder: of the cluster's session, by which their command lines are recognized.
    """

    def __init__(self, folder: Path) -> None:
        # Process descriptors, because the number of a dead process may be reused.
        self._descriptors = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text("utf-8", "replace").strip()
                if name in _NAMES and os.fsencode(folder) in (process / "cmdline").read_bytes():
                    self._descriptors[os.pidfd_open(int(process.name))] = name

    def answer(self) -> bool:
        """Return True if all processes are alive.

        Raises:
            Stalled: one of them has ended.
        """
        poll = select.poll()
        for descriptor in self._descriptors:
            poll.register(descriptor, select.POLLIN)
        ended = sorted({self._descriptors[descriptor] for descriptor, _ in poll.poll(0)})
        if ended:
            raise Stalled(f"Ray's {' and '.join(ended)} ended unexpectedly")
        return True

    def close(self) -> None:
        """Release resources."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = {}


class Head:
    """The head of a cluster that this process has not started.

    Args:
        address: HOST:PORT.
        clock: monotonic clock in seconds.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        host, _, port = address.rpartition(":")
        self._place = host.strip("[]"), int(port)
        self._shown = address
        self._clock = clock
        self._answered = clock()

    def answer(self) -> bool:
        """Return whether the head answers; if not, calls of Ray would hang.

        Raises:
            Stalled: it has not answered for more than 40 seconds.
        """
        try:
            socket.create_connection(self._place, _ANSWER_SECONDS).close()
        except OSError as error:
            if self._clock() - self._answered > _AWAY_SECONDS:
                raise Stalled(f"the cluster's head {self._shown} is gone") from error
            return False
        self._answered = self._clock()
        return True

    def close(self) -> None:
        """Release resources."""
