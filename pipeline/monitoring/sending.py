"""Notice of a run's end: a POST to an address, or a command that gets it on standard input."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from restyle.pipeline.monitoring.notification import Recipient

State = Literal["complete", "failed", "interrupted"]

PATIENCE = 20.0
"""Seconds after which a server that does not answer, or a command that does not end, is left."""


@dataclass(frozen=True)
class Ended:
    """What is told of the end of a run.

    Attributes:
        state: how it ended.
        out: path or URI of the output, without credentials.
        seconds: wall time.
        run: name of the run as in ``restyle runs``; empty if it did not get that far.
        counts: of the whole output, as in ``run.json``; None if it did not get that far.
        this_run: sums over what this run did, as in ``run.json``.
        error: message of a failed run, in one line.
    """

    state: State
    out: str
    seconds: float
    run: str
    counts: dict[str, Any] | None
    this_run: dict[str, Any] | None
    error: str | None

    def document(self) -> bytes:
        """Return it as JSON."""
        return json.dumps({"format": 1, **self.__dict__}, allow_nan=False).encode()


def tell(recipient: Recipient, ended: Ended) -> str:
    """Tell of the end of a run; takes at most :data:`PATIENCE` seconds.

    Returns:
        Why it failed, in a line; empty if it did not.
    """
    if recipient.command:
        failure = _run(recipient.command, ended.document())
    else:
        failure = _post(recipient.address, ended.document())
    return f"the notification of {recipient.shown} failed: {failure}" if failure else ""


def _post(address: str, document: bytes) -> str:
    """Send a document to a URL; why it failed, or empty."""
    headers = {"Content-Type": "application/json", "User-Agent": "restyle"}
    parts = urlsplit(address)
    if "@" in parts.netloc:
        user, _, host = parts.netloc.rpartition("@")
        headers["Authorization"] = f"Basic {b64encode(unquote(user).encode()).decode()}"
        address = urlunsplit(parts._replace(netloc=host))
    # http or https, see recipient_of.
    request = urllib.request.Request(address, data=document, headers=headers)  # noqa: S310
    said: list[str] = []
    # A thread, because names that do not resolve and answers in drops know no timeout.
    thread = threading.Thread(
        target=lambda: said.append(_posted(request)), name="notify", daemon=True
    )
    thread.start()
    thread.join(PATIENCE)
    return said[0] if said else f"no answer for {PATIENCE:g} s"


def _run(command: tuple[str, ...], document: bytes) -> str:
    """Run a command with a document on standard input; why it failed, or empty."""
    try:
        process = subprocess.Popen(  # noqa: S603 (the user's own command, without a shell)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return error.strerror or type(error).__name__
    try:
        process.communicate(document, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it has not ended after {PATIENCE:g} s"
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"it exited with {process.returncode}" if process.returncode else ""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would turn the POST into a GET of another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _posted(request: urllib.request.Request) -> str:
    """Send a request; why it failed, or empty."""
    try:
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(request, timeout=PATIENCE):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"status {error.code}"
    except urllib.error.URLError as error:
        reason = error.reason
        return getattr(reason, "strerror", None) or str(reason)
    except Exception as error:
        # Whatever a server says; its text may repeat the address.
        return type(error).__name__
