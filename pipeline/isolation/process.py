"""A child process that serves its parent over a socket, as the parent sees it.

Native code that reads what strangers made can end its process, never return, or take all memory.
In a process of its own it costs one input. :mod:`restyle.pipeline.isolation.child` is the other
side.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from restyle.core.errors import FatalError, RejectError, RejectReason, RestyleError
from restyle.pipeline.isolation.environment import child_environment

GRACE = 15.0
"""Seconds that a child may go on after its time: it ends itself at the limit, and the parent steps
in only when even that fails."""

STARTS = 5
"""Children that may be killed one after another while they start."""

_ROOT = str(Path(__file__).absolute().parents[3])
_SAID = 4000


class ChildProcess:
    """A running child. One thread at a time may use it.

    Args:
        module: what ``python -m`` runs.
        settings: what it is told first.
        inherited: descriptors that it gets too; their numbers are its further arguments.
        environment: variables to set beside those of this process.

    Attributes:
        was_ready: it has started.
    """

    def __init__(
        self,
        module: str,
        settings: object,
        inherited: Sequence[int] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        # What native code prints when it aborts is for the one line that says so, not for a screen.
        self._errors = os.memfd_create("restyle-child-errors")
        passed = (theirs.fileno(), *inherited)
        # Not multiprocessing: its children would import the parent's main module, here Ray's.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", module, *map(str, passed)],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            # Wherever this project was imported from, the child finds it too.
            env={**os.environ, **child_environment(_ROOT), **(environment or {})},
            # Not where the inputs may be: nothing of theirs is to be imported, or loaded.
            cwd="/",
        )
        theirs.close()
        self._socket = ours
        self._connection = Connection(os.dup(ours.fileno()))
        self.was_ready = False
        self._refusal: RestyleError | None = None
        self.send(settings)

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            OSError: the child is dead.
        """
        self._connection.send_bytes(pickle.dumps(message, protocol=5))

    def send_descriptor(self, descriptor: int) -> None:
        """Give the child an open file, when it waits for one.

        Raises:
            OSError: the child is dead.
        """
        socket.send_fds(self._socket, [b"\0"], [descriptor])

    def receive(self, patience: float, progress: Callable[[], int] = lambda: 0) -> Any:
        """The next message.

        Args:
            patience: seconds without a message after which the child is ended, unless
            progress: tells another number than before.

        Raises:
            RestyleError: as the child says.
            EOFError, OSError: the child is dead.
        """
        at = progress()
        while not self._connection.poll(patience):
            if at == progress():
                self._process.send_signal(signal.SIGALRM)
            at = progress()
        # What our own child wrote into our own socket is safe to unpickle.
        message = pickle.loads(self._connection.recv_bytes())  # noqa: S301
        if isinstance(message, RestyleError):
            raise message
        return message

    def wait_ready(self, patience: float) -> None:
        """Wait until the child has started.

        Raises:
            RestyleError: as the child says, to everybody who asks.
            EOFError, OSError: the child is dead.
        """
        if self._refusal is not None:
            raise self._refusal
        if not self.was_ready:
            try:
                self.receive(patience)
            except RestyleError as error:
                self._refusal = error
                raise
            self.was_ready = True

    def kill(self) -> None:
        """End the child at once, whatever it is at."""
        self._process.kill()
        self.stop()

    def stop(self) -> int:
        """End the child and wait for that; its exit code, negative for a signal."""
        self._connection.close()
        self._socket.close()
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._errors >= 0:
            self._said = _last_line(self._errors)
            os.close(self._errors)
            self._errors = -1
        return code

    def not_started(self, code: int, what: str) -> FatalError:
        """The error for a stopped child that never was ready, for which no input is to blame."""
        said = f": {self._said}" if self._said else ""
        return FatalError(f"the process that {what} does not start ({ending(code)}{said})")


def died(code: int, what: str, limit: int) -> RejectError:
    """Why an input is rejected on which a child ended.

    Args:
        code: exit code of the child.
        what: what it was at, as in ``reading``.
        limit: seconds that it had.
    """
    if code in (-signal.SIGALRM, -signal.SIGPROF):
        message = f"{what} took more than {limit} s"
        return RejectError(RejectReason.TIMED_OUT, message)
    return RejectError(RejectReason.CRASHED, f"{what} crashed ({ending(code)})")


def ending(code: int) -> str:
    """An exit code in words."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _last_line(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    said = os.pread(descriptor, _SAID, max(size - _SAID, 0)).decode("utf-8", "replace")
    lines = said.split("\n")
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
