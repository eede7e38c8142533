"""A child process that serves its parent over a socket, as the child sees it."""

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
        # Nothing else is written to a file here, and native code may complain without end.
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_SAID, _MOST_SAID))
        # Inputs that crash it must not fill the disk with what it held.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
        # Ctrl-C goes to the whole foreground group; the parent decides when a child ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._socket = socket.socket(fileno=descriptor)
        self._connection = Connection(os.dup(descriptor))

    def receive(self) -> Any:
        """The next message.

        Raises:
            EOFError, OSError: the parent is gone.
        """
        return pickle.loads(self._connection.recv_bytes())  # noqa: S301 (our own parent)

    def receive_descriptor(self) -> int:
        """An open file, which the parent sends next.

        Raises:
            EOFError, OSError: the parent is gone.
        """
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            raise EOFError
        return descriptors[0]

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            OSError: the parent is gone.
        """
        self._connection.send_bytes(pickle.dumps(message, protocol=5))


def limit_memory(budget: int) -> None:
    """Let allocations fail beyond what is in use now and a budget, in bytes.

    Whoever is ended for want of memory is chosen by the system, and rarely well; an allocation
    that fails is a reject.
    """
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + budget
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
