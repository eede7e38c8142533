"""The parent's side of a child process that serves it over a socket.

Native code that reads untrusted input can crash, hang or exhaust memory. In a child process that
costs one input. :mod:`restyle.pipeline.isolation.child` is the other side.
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
"""Seconds after its time limit at which the parent ends a child that has not ended itself."""

STARTS = 5
"""Maximum number of consecutive starts that are killed."""

_ROOT = str(Path(__file__).absolute().parents[3])
_SAID = 4000


class ChildProcess:
    """A running child. Not thread-safe.

    Args:
        module: the module for ``python -m``.
        settings: the first message.
        inherited: further descriptors for the child; their numbers are its further arguments.
        environment: further environment variables.

    Attributes:
        was_ready: whether it has started.
    """

    def __init__(
        self,
        module: str,
        settings: object,
        inherited: Sequence[int] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        # Output of aborting native code is kept for the error message and not printed.
        self._errors = os.memfd_create("restyle-child-errors")
        passed = (theirs.fileno(), *inherited)
        # Not multiprocessing, whose children import the parent's main module, here Ray's.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", module, *map(str, passed)],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            # The child imports this project from the same place.
            env={**os.environ, **child_environment(_ROOT), **(environment or {})},
            # Not the folder of inputs, from which files could be imported or loaded.
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
            OSError: the child has died.
        """
        self._connection.send_bytes(pickle.dumps(message, protocol=5))

    def send_descriptor(self, descriptor: int) -> None:
        """Send the descriptor of an open file to a child that waits for one.

        Raises:
            OSError: the child has died.
        """
        socket.send_fds(self._socket, [b"\0"], [descriptor])

    def receive(self, patience: float | None, progress: Callable[[], int] = lambda: 0) -> Any:
        """Receive the next message.

        Args:
            patience: seconds without a message and without progress after which the child is
                ended; None for no limit.
            progress: returns a number that changes with progress.

        Raises:
            RestyleError: reported by the child, again to every later caller.
            EOFError, OSError: the child has died.
        """
        at = progress()
        while not self._connection.poll(patience):
            if at == progress():
                self._process.send_signal(signal.SIGALRM)
            at = progress()
        # Data from our own child is safe to unpickle.
        message = pickle.loads(self._connection.recv_bytes())  # noqa: S301
        if isinstance(message, RestyleError):
            raise message
        return message

    def wait_ready(self, patience: float) -> None:
        """Wait until the child has started.

        Raises:
            RestyleError: reported by the child, again to every later caller.
            EOFError, OSError: the child has died.
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
        """End the child at once."""
        self._process.kill()
        self.stop()

    def stop(self, patience: float = 2.0) -> int:
        """End the child, wait for it and return its exit code, negative for a signal.

        Args:
            patience: seconds for an orderly end, after which it is killed.
        """
        self._connection.close()
        self._socket.close()
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._errors >= 0:
            self._said = _last_line(self._errors)
            os.close(self._errors)
            self._errors = -1
        return code

    def not_started(self, code: int, what: str) -> FatalError:
        """The error for a stopped child that was never ready, which is not an input's fault."""
        said = f": {self._said}" if self._said else ""
        return FatalError(f"the process that {what} does not start ({ending(code)}{said})")


def died(code: int, what: str, limit: int) -> RejectError:
    """The reject of an input that ended a child.

    Args:
        code: exit code of the child.
        what: its activity, such as ``reading``.
        limit: its time limit in seconds.
    """
    if code in (-signal.SIGALRM, -signal.SIGPROF):
        message = f"{what} took more than {limit} s"
        return RejectError(RejectReason.TIMED_OUT, message)
    return RejectError(RejectReason.CRASHED, f"{what} crashed ({ending(code)})")


def ending(code: int) -> str:
    """Describe an exit code: the name of a signal, or ``exit code N``."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _last_line(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    said = os.pread(descriptor, _SAID, max(size - _SAID, 0)).decode("utf-8", "replace")
    lines = said.split("\n")
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
