"""Client of Ray's job server with time limits and specific errors.

Ray's own client, which it uses, waits without a limit, prefers the variables
``RAY_API_SERVER_ADDRESS`` and ``RAY_ADDRESS`` to the given address, and raises RuntimeError for
every refusal.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from restyle.core.errors import FatalError, SpecError, TransientError
from restyle.core.files import read_text
from restyle.pipeline.storage.addresses import shown_uri
from restyle.pipeline.storage.retries import retrying
from restyle.pipeline.storage.url_secrets import secret_in

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"  # noqa: S105 (the name of a variable)
TOKEN_FILE_VARIABLE = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 (the same)

_MOST_TOKEN = 1 << 16
_TIMEOUT = 60.0
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
_MOST_TEXT = 300
# Start of the client's error messages, which is followed by the server's answer.
_STATUS = re.compile(r"status code (\d{3}): (.*)", re.DOTALL)

_Answer = TypeVar("_Answer")


class DuplicateError(Exception):
    """A job of this id was submitted before."""


@dataclass(frozen=True)
class SubmittedJob:
    """State of a submitted job.

    Attributes:
        submission: id of the job.
        status: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
        message: message of the server about the job.
        entrypoint: the command.
        started: time of the submission, ISO 8601 in UTC; empty when unknown.
        ended: time of the end; empty before.
        exit_code: of the command; None before its end, or after a signal.
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
        """Check the address without connecting.

        Raises:
            SpecError: it is invalid or contains a password.
        """
        if secret_in(address) is not None or "@" in address:
            raise SpecError(
                f"leave user, password and query out of --address {shown_uri(address)}; a token "
                f"is taken from {TOKEN_VARIABLE} or {TOKEN_FILE_VARIABLE}"
            )
        if not _is_address(address):
            raise SpecError(
                f"--address {shown_uri(address)} should be http://HOST:8265, where Ray's job "
                "server listens"
            )
        self.address = address.rstrip("/")

    def submit(self, submission: str, entrypoint: str, metadata: dict[str, str]) -> None:
        """Start a job.

        Retries as in :func:`restyle.pipeline.storage.retries.retrying`, because a new cluster
        accepts jobs some time after it lists them.

        Args:
            submission: id of the job.
            entrypoint: shell command, run on the head node.
            metadata: shown with the job on the dashboard.

        Raises:
            DuplicateError: the id was submitted before.
            FatalError: the server refused the job.
            TransientError: the server cannot be reached, or does not become ready.
        """
        retrying(
            lambda: self._ask(
                lambda client: client.submit_job(
                    entrypoint=entrypoint, submission_id=submission, metadata=metadata
                )
            )
        )

    def jobs(self, prefix: str) -> list[SubmittedJob]:
        """Return the jobs whose id begins with a prefix, in the order of submission."""
        listed = self._ask(lambda client: client.list_jobs())
        found = [_job(each) for each in listed if (each.submission_id or "").startswith(prefix)]
        return sorted(found, key=lambda job: (len(job.submission), job.submission))

    def job(self, submission: str) -> SubmittedJob:
        """Return the present state of a job."""
        return _job(self._ask(lambda client: client.get_job_info(submission)))

    def log(self, submission: str) -> str:
        """Return the output of the job's command so far."""
        return self._ask(lambda client: client.get_job_logs(submission)) or ""

    def stop(self, submission: str) -> None:
        """Stop the job: SIGTERM, and SIGKILL some seconds later."""
        self._ask(lambda client: client.stop_job(submission))

    @functools.cached_property
    def _client(self) -> JobSubmissionClient:
        with _only_address(self.address):
            return JobSubmissionClient(self.address, headers=_authorization())

    def _ask(self, question: Callable[[JobSubmissionClient], _Answer]) -> _Answer:
        try:
            return _within(_TIMEOUT, lambda: question(self._client))
        except AuthenticationError as error:
            raise FatalError(
                f"the job server at {self.address} asks for a token, or for another; set "
                f"{TOKEN_VARIABLE} or {TOKEN_FILE_VARIABLE}"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            # The answer is not JSON or lacks fields of a job.
            raise FatalError(f"{self.address} answers, but is no job server of Ray") from error
        except OSError as error:
            reason = str(error) or type(error).__name__
            raise TransientError(
                f"the job server at {self.address} cannot be reached ({reason}); is the cluster "
                "up, and does 'ray dashboard' or a tunnel lead to its port 8265?"
            ) from error
        except RuntimeError as error:
            raise self._refusal(str(error)) from error

    def _refusal(self, text: str) -> Exception:
        if "already exists" in text:
            return DuplicateError(text)
        found = _STATUS.search(text)
        if found is None:
            return FatalError(f"{self.address} is no job server that Ray's client takes: {text}")
        code, answer = int(found[1]), " ".join(found[2].removesuffix(".").split())
        # The reason is at the end of the server's traceback.
        message = f"the job server at {self.address} says {code}: {answer[-_MOST_TEXT:]}"
        return TransientError(message) if code >= 500 else FatalError(message)


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _job(details: JobDetails) -> SubmittedJob:
    return SubmittedJob(
        submission=details.submission_id or "",
        status=details.status.value,
        message=_sentence(details.message or ""),
        entrypoint=details.entrypoint,
        started=_moment(details.start_time),
        ended=_moment(details.end_time),
        exit_code=details.driver_exit_code,
    )


def _sentence(message: str) -> str:
    """Remove the excerpt of the log from the message about a failed job."""
    return " ".join(message.partition(", last available logs")[0].split())


def _moment(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _authorization() -> dict[str, str]:
    """Return the authorization header with the token from Ray's variables, if one is set.

    Ray's client reads them only with ``RAY_AUTH_MODE``, which is a setting of clusters.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    file = os.environ.get(TOKEN_FILE_VARIABLE)
    if not token and file:
        token = read_text(
            Path(file), _MOST_TOKEN, named=f"{file}, which {TOKEN_FILE_VARIABLE} names,"
        )
        token = token.strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


@contextlib.contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Make Ray's client use this address, which prefers one in the environment."""
    before = os.environ.get(ADDRESS_VARIABLE)
    os.environ[ADDRESS_VARIABLE] = address
    try:
        yield
    finally:
        del os.environ[ADDRESS_VARIABLE]
        if before is not None:
            os.environ[ADDRESS_VARIABLE] = before


def _within(seconds: float, work: Callable[[], _Answer]) -> _Answer:
    """Call a function in a thread, which is abandoned after a time limit.

    Raises:
        TimeoutError: the limit was exceeded.
    """
    future: Future[_Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds:g} seconds") from error
