"""Messages of Ray: kept for a file in the output, where Ray would print them on the screen.

Ray prints a coloured line for each worker that dies and each try that follows, which a run
survives, between the lines of the run itself.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import ray._private.worker

from restyle.core.errors import RestyleError
from restyle.core.shown_text import plural, visible
from restyle.pipeline.execution.rounds import RAY_LOG
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import Storage
from restyle.pipeline.storage.url_secrets import text_without_secrets

_MOST_LINES = 2000
_MOST_CHARACTERS = 2000
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Messages:
    """What Ray has said in a run, the last 2,000 lines, without colours and credentials.

    Attributes:
        storage: the output that gets them; None until it is known.
    """

    def __init__(self) -> None:
        self.storage: Storage | None = None
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._count = self._written = 0
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def taken(self, listener: Listener) -> Iterator[None]:
        """Take what Ray says meanwhile, and write it down at the end.

        Args:
            listener: is told where it is, if there was any.
        """
        logger = logging.getLogger("ray")
        handlers, logger.handlers = logger.handlers, [_Handler(self)]
        # Private, because nothing public keeps these lines away: with log_to_driver=False they are
        # printed nevertheless (ray 2.60, listen_error_messages), one for each death of a worker.
        module: Any = ray._private.worker
        printed, module.print_to_stdstream = module.print_to_stdstream, self._printed
        try:
            yield
        finally:
            module.print_to_stdstream = printed
            logger.handlers = handlers
            self.write()
        if self._written and self.storage is not None:
            what = plural(self._written, "message")
            listener.noted(f"{what} of Ray are in {self.storage.shown(RAY_LOG)}")

    def add(self, text: str) -> None:
        """Take a message of one or more lines."""
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        with self._guard:
            self._count += 1
            for line in _COLOURS.sub("", text).splitlines():
                clean = visible(text_without_secrets(line[:_MOST_CHARACTERS]))
                if clean.strip():
                    self._lines.append(f"{stamp} {clean}\n")

    def write(self) -> None:
        """Bring the file up to date, if there is anything new; it is no reason to fail."""
        with self._guard:
            count, data = self._count, "".join(self._lines).encode()
        if self.storage is None or count == self._written:
            return
        with contextlib.suppress(RestyleError):
            self.storage.write(RAY_LOG, data)
            self._written = count

    def _printed(self, data: dict[str, Any], ignore_prefix: bool = False) -> None:
        """As Ray's own function, which prints lines of a batch."""
        self.add("\n".join(map(str, data.get("lines", ()))))


class _Handler(logging.Handler):
    def __init__(self, messages: Messages) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.add(self.format(record))
