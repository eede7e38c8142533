"""The processes of Ray without which a cluster is none: a dead one is noticed, not waited for.

The driver's connections to a dead process hang for a minute, and then Ray ends the driver itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from restyle.pipeline.execution.watchdog import Stalled

# The kernel cuts names to 15 characters.
_NAMES = ("gcs_server", "raylet")

_ANSWER_SECONDS = 10.0

# A head that is started anew, as on Kubernetes, is there again before.
_AWAY_SECONDS = 40.0


class LocalDaemons:
    """Those of a cluster that this process has started.

    Args:
        folder: of the cluster's session; it stands in their command lines.
    """

    def __init__(self, folder: Path) -> None:
        # By descriptor: the number of a dead process may be another's.
        self._descriptors = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text("utf-8", "replace").strip()
                if name in _NAMES and os.fsencode(folder) in (process / "cmdline").read_bytes():
                    self._descriptors[os.pidfd_open(int(process.name))] = name

    def answer(self) -> bool:
        """True.

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
        """Look no more."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = {}


class Head:
    """That of a cluster of somebody else's, which is asked whether it is there.

    Args:
        address: HOST:PORT.
        clock: monotonic, in seconds.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        host, _, port = address.rpartition(":")
        self._place = host.strip("[]"), int(port)
        self._shown = address
        self._clock = clock
        self._answered = clock()

    def answer(self) -> bool:
        """Whether it answers now; if not, nothing is to be asked of Ray.

        Raises:
            Stalled: it has not answered for long.
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
        """Look no more."""
