"""Talking to a job server: what is sent, and what becomes of every kind of answer."""

from __future__ import annotations

import os
import socket

import pytest

from restyle.core.errors import FatalError, SpecError, TransientError
from restyle.pipeline.execution.ray import job_server as module
from restyle.pipeline.execution.ray.job_server import DuplicateError, JobServer, SubmittedJob
from tests.jobs.fake_job_server import FakeJobServer, job_server

__all__ = ["job_server"]


def test_a_submission_and_what_is_known_of_it(
    job_server: FakeJobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token-of-the-test")
    server = JobServer(job_server.address + "/")
    server.submit("restyle-a-1", "restyle invert x", {"out": "y"})
    assert job_server.received == [
        {
            "entrypoint": "restyle invert x",
            "submission_id": "restyle-a-1",
            "metadata": {"out": "y"},
            "runtime_env": {},
        }
    ]
    assert job_server.headers["Authorization"] == "Bearer token-of-the-test"
    job_server.change(
        "restyle-a-1",
        status="FAILED",
        end_time=1_767_225_600_500,
        message="exit code 2, last available logs: x\ny",
        driver_exit_code=2,
    )
    assert server.job("restyle-a-1") == SubmittedJob(
        submission="restyle-a-1",
        status="FAILED",
        message="exit code 2",
        entrypoint="restyle invert x",
        started="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T00:00:00+00:00",
        exit_code=2,
    )


def test_jobs_are_those_of_one_prefix_in_order(job_server: FakeJobServer) -> None:
    server = JobServer(job_server.address)
    for submission in ("a-10", "a-9", "b-1"):
        server.submit(submission, "x", {})
    job_server.jobs["driver"] = {
        "submission_id": None,
        "type": "DRIVER",
        "job_id": "01000000",
        "status": "RUNNING",
        "entrypoint": "python x.py",
    }
    assert [job.submission for job in server.jobs("a-")] == ["a-9", "a-10"]


def test_a_taken_id(job_server: FakeJobServer) -> None:
    server = JobServer(job_server.address)
    server.submit("a-1", "x", {})
    with pytest.raises(DuplicateError):
        server.submit("a-1", "x", {})


def test_a_cluster_that_comes_up_is_waited_for(
    job_server: FakeJobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_yet = (500, b"No available agent to submit job, please try again later.")
    monkeypatch.setenv("RESTYLE_RETRIES", "3:0")
    job_server.failures = [not_yet, not_yet]
    JobServer(job_server.address).submit("a-1", "x", {})
    assert list(job_server.jobs) == ["a-1"]
    job_server.failures = [not_yet] * 3
    with pytest.raises(TransientError, match=r"No available agent.*\(tried 3 times\)"):
        JobServer(job_server.address).submit("a-2", "x", {})


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (401, FatalError, "asks for a token"),
        (403, FatalError, "asks for a token"),
        (404, FatalError, "says 404: no, because"),
        (400, FatalError, "says 400: no, because"),
        (503, TransientError, "says 503: no, because"),
    ],
)
def test_refusals(job_server: FakeJobServer, code: int, kind: type[Exception], words: str) -> None:
    job_server.failures = [(code, b"no, because")]
    with pytest.raises(kind, match=words):
        JobServer(job_server.address).job("a-1")


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[]", b'{"status": "RUNNING"}', b"\xff"])
def test_something_else_answers(job_server: FakeJobServer, answer: bytes) -> None:
    job_server.failures = [(200, answer)]
    with pytest.raises(FatalError, match="no job server of Ray"):
        JobServer(job_server.address).job("a-1")


@pytest.mark.parametrize(
    ("version", "kind", "words"),
    [
        ((200, b"<html>"), FatalError, "no job server of Ray"),
        ((200, b"{}"), FatalError, "no job server of Ray"),
        ((404, b"what?"), FatalError, "no job server that Ray's client takes"),
        ((200, b'{"ray_version": "1.2.0"}'), FatalError, "1.2.0 is running on the cluster"),
        ((503, b"starting"), TransientError, "cannot be reached .*503"),
        ((401, b"who?"), FatalError, "asks for a token"),
    ],
)
def test_the_first_answer(
    job_server: FakeJobServer, version: tuple[int, bytes], kind: type[Exception], words: str
) -> None:
    job_server.version = version
    with pytest.raises(kind, match=words):
        JobServer(job_server.address).jobs("a-")
    job_server.version = FakeJobServer().version
    server = JobServer(job_server.address)
    assert server.jobs("a-") == []


@pytest.mark.parametrize("variable", ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_the_address_wins_over_the_environment(
    job_server: FakeJobServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert JobServer(job_server.address).jobs("a-") == []
    assert os.environ[variable] == "http://127.0.0.1:9"


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TransientError, match=r"cannot be reached \(no answer within 0\.2 sec"):
            JobServer(address).jobs("a-")


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransientError, match="cannot be reached"):
        JobServer(f"http://127.0.0.1:{port}").jobs("a-")


@pytest.mark.parametrize(
    "address",
    [
        "head:8265",
        "ftp://head",
        "http://",
        "http://u:geheim@h:1",
        "http://[::1",
        "http://h:x",
        "http://h:99999",
        "http://u:ge/geheim@h:1/x",
        "http://h:1#token=geheim",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(SpecError) as caught:
        JobServer(address)
    assert "geheim" not in str(caught.value)
