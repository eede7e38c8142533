"""The child's side of a process that serves its parent over a socket."""

from __future__ import annotations

import mmap
import os
import pickle
import resource
import signal
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_MOST_SAID = 1 << 20


class Parent:
    """The connection to the parent.

    Args:
        descriptor: of the socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._connection = Connection(os.dup(descriptor))

    def receive(self) -> Any:
        """Receive the next message.

        Raises:
            EOFError, OSError: the parent has ended.
        """
        return pickle.loads(self._connection.recv_bytes())  # noqa: S301 (our own parent)

    def receive_descriptor(self) -> int:
        """Receive the descriptor of an open file.

        Raises:
            EOFError, OSError: the parent has ended.
        """
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            raise EOFError
        return descriptors[0]

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            OSError: the parent has ended.
        """
        self._connection.send_bytes(pickle.dumps(message, protocol=5))


def confine() -> None:
    """Prepare this process for native code that may crash, hang or print without end."""
    # The only file written here holds messages of native code, which may be endless.
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_SAID, _MOST_SAID))
    # Crashes must not fill the disk with core dumps.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    # Ctrl-C reaches the whole foreground group; the parent ends its children itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def limit_memory(budget: int) -> None:
    """Limit this process's memory to its present use plus a budget in bytes.

    A failing allocation becomes a reject, while the system's out-of-memory killer may end any
    process.
    """
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + budget
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
