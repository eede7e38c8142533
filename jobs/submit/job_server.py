"""Ray's job server, spoken to over plain HTTP.

Its REST interface is stable and small. Using it without Ray's own client means that submitting
needs neither Ray nor the cluster's version of it, and costs no import of it.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from restyle.core.errors import FatalError, SpecError, TransientError
from restyle.pipeline.storage.filesystem import shown_uri
from restyle.pipeline.storage.retries import retrying

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"  # noqa: S105 (the name of a variable)
TOKEN_FILE_VARIABLE = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 (the same)

_TIMEOUT = 60.0
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
_MOST_TEXT = 300


class DuplicateError(Exception):
    """A job of this id was submitted before."""


@dataclass(frozen=True)
class SubmittedJob:
    """What the server knows of a job.

    Attributes:
        submission: its id.
        status: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
        message: the server's sentence about it.
        entrypoint: the command.
        started: when it was submitted, ISO 8601 in UTC; empty when unknown.
        ended: when it ended; empty before.
        exit_code: of the command; None before its end, or when it did not exit by itself.
    """

    submission: str
    status: str
    message: str = ""
    entrypoint: str = ""
    started: str = ""
    ended: str = ""
    exit_code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether its status is final."""
        return self.status in _ENDED


class JobServer:
    """The job server of one cluster.

    Attributes:
        address: such as ``http://head:8265``.
    """

    def __init__(self, address: str) -> None:
        """Check the address; nothing is connected to yet.

        Raises:
            SpecError: it is none, or holds a password.
        """
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpecError(
                f"--address {shown_uri(address)} should be http://HOST:8265, where Ray's job "
                "server listens"
            )
        if "@" in parts.netloc or parts.query:
            raise SpecError(
                f"leave user, password and query out of --address {shown_uri(address)}; a token "
                f"is taken from {TOKEN_VARIABLE} or {TOKEN_FILE_VARIABLE}"
            )
        self.address = address.rstrip("/")

    def submit(self, submission: str, entrypoint: str, metadata: dict[str, str]) -> None:
        """Start a job.

        A cluster that has just come up lists jobs some time before it can take one; it is waited
        for as :func:`restyle.pipeline.storage.retries.retrying` does.

        Args:
            submission: its id.
            entrypoint: a shell command, run on the head node.
            metadata: shown beside it on the dashboard.

        Raises:
            DuplicateError: there was one of this id.
            FatalError: the server refused it.
            TransientError: the server cannot be reached, or is not ready for long.
        """
        body = {"entrypoint": entrypoint, "submission_id": submission, "metadata": metadata}
        retrying(lambda: self._ask("POST", "/api/jobs/", body))

    def jobs(self, prefix: str) -> list[SubmittedJob]:
        """Submitted jobs whose id begins so, in the order of submission."""
        found = [
            _job(entry)
            for entry in self._ask("GET", "/api/jobs/")
            if str(entry.get("submission_id") or "").startswith(prefix)
        ]
        return sorted(found, key=lambda job: (len(job.submission), job.submission))

    def job(self, submission: str) -> SubmittedJob:
        """One job, as it is now."""
        return _job(self._ask("GET", f"/api/jobs/{quote(submission, safe='')}"))

    def log(self, submission: str) -> str:
        """Everything that the job's command has printed so far."""
        answer = self._ask("GET", f"/api/jobs/{quote(submission, safe='')}/logs")
        return str(answer.get("logs") or "")

    def stop(self, submission: str) -> None:
        """Ask the job to end; it gets SIGTERM, and SIGKILL some seconds later."""
        self._ask("POST", f"/api/jobs/{quote(submission, safe='')}/stop", {})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 (http or https, see the constructor)
            self.address + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", **_authorization()},
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from error
        except json.JSONDecodeError as error:
            raise FatalError(f"{self.address} answers, but is no job server of Ray") from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise TransientError(
                f"the job server at {self.address} cannot be reached ({reason}); is the cluster "
                "up, and does 'ray dashboard' or a tunnel lead to its port 8265?"
            ) from error

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        text = " ".join(error.read().decode("utf-8", "replace").split())
        if "already exists" in text:
            return DuplicateError(text)
        if error.code in (401, 403):
            return FatalError(
                f"the job server at {self.address} asks for a token ({error.code}); set "
                f"{TOKEN_VARIABLE} or {TOKEN_FILE_VARIABLE}"
            )
        if error.code == 404:
            return FatalError(
                f"{self.address} answers, but does not know {urlsplit(error.url).path}"
            )
        # The end of a server's traceback is what says why.
        message = f"the job server at {self.address} says {error.code}: {text[-_MOST_TEXT:]}"
        return TransientError(message) if error.code >= 500 else FatalError(message)


def _job(entry: dict[str, Any]) -> SubmittedJob:
    return SubmittedJob(
        submission=str(entry["submission_id"]),
        status=str(entry["status"]),
        message=_sentence(str(entry.get("message") or "")),
        entrypoint=str(entry.get("entrypoint") or ""),
        started=_moment(entry.get("start_time")),
        ended=_moment(entry.get("end_time")),
        exit_code=entry.get("driver_exit_code"),
    )


def _sentence(message: str) -> str:
    """A server's message without the copy of the log's end that follows a failure."""
    return " ".join(message.partition(", last available logs")[0].split())


def _moment(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _authorization() -> dict[str, str]:
    """The header of a cluster that asks for a token, from where Ray itself looks for it."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    file = os.environ.get(TOKEN_FILE_VARIABLE)
    if not token and file:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{TOKEN_FILE_VARIABLE} names {file}, which cannot be read") from error
    return {"Authorization": f"Bearer {token}"} if token else {}
