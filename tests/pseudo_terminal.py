"""``restyle`` in a pseudo-terminal of 100 columns, as a person sees it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from types import TracebackType

from tests.command import ROOT

PATIENCE = 120.0
"""Seconds without what is waited for, after which a test fails; far more than any takes."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


class PseudoTerminal:
    """A command in a terminal of its own. Used as a context, which ends it.

    Args:
        arguments: of ``restyle``.
    """

    def __init__(self, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        self._data = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "restyle.jobs.cli", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "100", "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    @property
    def shown(self) -> str:
        """What was shown so far, without control sequences."""
        # Of all bytes at once, because a read may end within a character or a sequence.
        return _CONTROL.sub("", self._data.decode(errors="replace"))

    def __enter__(self) -> PseudoTerminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        """Read what is shown next; False if nothing comes any more."""
        ready, _, _ = select.select([self._master], [], [], 0.2)
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self._data += data
        return bool(data)

    def wait_for(self, pattern: str) -> None:
        """Wait until the terminal shows a text.

        Raises:
            AssertionError: the command ended before, or it takes too long.
        """
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.shown):
            assert self._read(), f"ended without {pattern!r}: {self.shown[-2000:]}"
            assert time.monotonic() < deadline, (
                f"waited in vain for {pattern!r}: {self.shown[-2000:]}"
            )

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self) -> int:
        """Wait for the end and return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < deadline, f"does not end: {self.shown[-2000:]}"
        return self.process.wait(PATIENCE)
