"""Who is told of a run's end, with what, and that nothing of it changes the run."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.accounting import operation
from restyle.pipeline.execution.job import Job, UnitResult, failure
from restyle.pipeline.execution.local import run_here
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.rounds import Execute
from restyle.pipeline.execution.run import conduct
from restyle.pipeline.execution.task import Task
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Interrupted, Listener
from restyle.pipeline.monitoring import sending
from restyle.pipeline.monitoring.monitor import Monitoring
from restyle.pipeline.monitoring.notification import Recipient, check_recipient, recipient_of
from restyle.pipeline.monitoring.sending import Ended, tell
from tests.faults.running_job import make_images
from tests.pipeline.execution.squares import SQUARES, SquareTask
from tests.warm_command import restyle

SECRET = "geheim7"  # noqa: S105 (of a test)
ENDED = Ended("complete", "s3://bucket/out", 1.5, "run", {"faces": 3}, {"faces": 2}, None)


class Webhook:
    """A server on loopback that keeps what it is sent.

    Attributes:
        got: path, headers and document of each request.
        status: that it answers with.
    """

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 204
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.got.append((self.path, dict(self.headers), json.loads(data)))
                self.send_response(webhook.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                webhook.got.append((self.path, {}, {}))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with contextlib.closing(Webhook()) as server:
        yield server


def test_a_url_gets_a_post(webhook: Webhook) -> None:
    told = Recipient(
        address=f"http://user:{SECRET}%21@{webhook.host}/hooks/{SECRET}?token={SECRET}"
    )
    assert tell(told, ENDED) == ""
    ((path, headers, document),) = webhook.got
    assert path == f"/hooks/{SECRET}?token={SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Basic dXNlcjpnZWhlaW03IQ=="
    assert document == {
        "format": 1,
        "state": "complete",
        "out": "s3://bucket/out",
        "seconds": 1.5,
        "run": "run",
        "counts": {"faces": 3},
        "this_run": {"faces": 2},
        "error": None,
    }


@pytest.mark.parametrize("status", [301, 307, 401, 500])
def test_what_a_server_refuses_is_one_line_without_secrets(webhook: Webhook, status: int) -> None:
    webhook.status = status
    told = Recipient(address=f"http://u:{SECRET}@{webhook.host}/{SECRET}")
    assert tell(told, ENDED) == f"the notification of http://127.0.0.1 failed: status {status}"
    # No redirect is followed, not by another request either.
    assert len(webhook.got) == 1


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n", b"\x00" * 9, b"no http at all\r\n\r\n"]
)
def test_servers_that_do_not_answer(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                client, _ = server.accept()
                client.recv(65536)
                client.sendall(answer)
                released.wait(60)
                client.close()

        released = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        said = tell(
            Recipient(address=f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}"), ENDED
        )
        released.set()
    assert said.startswith("the notification of http://127.0.0.1 failed: ")
    assert SECRET not in said
    assert "\n" not in said


def test_a_server_that_answers_in_drops_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                client, _ = server.accept()
                client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\n")
                # Each is in time for the socket; a client takes a hundred of them.
                while not released.wait(0.1):
                    client.sendall(b"A: b\r\n")
                client.close()

        released = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        said = tell(Recipient(address=f"http://127.0.0.1:{server.getsockname()[1]}/"), ENDED)
        released.set()
    assert said == "the notification of http://127.0.0.1 failed: no answer for 0.5 s"


def test_nobody_at_the_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        said = tell(Recipient(address=f"http://127.0.0.1:{port}/{SECRET}"), ENDED)
    assert said == "the notification of http://127.0.0.1 failed: Connection refused"


def test_a_command_gets_it_on_standard_input(tmp_path: Path) -> None:
    code = f"import sys; open({str(tmp_path / 'got')!r}, 'wb').write(sys.stdin.buffer.read())"
    told = recipient_of(f'{sys.executable} -c "{code}"')
    assert tell(told, ENDED) == ""
    assert json.loads((tmp_path / "got").read_bytes()) == json.loads(ENDED.document())


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    code = f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(repr(sys.argv[1:]))"
    told = recipient_of(f"{sys.executable} -c \"{code}\" '$HOME; touch {tmp_path}/x' *")
    assert tell(told, ENDED) == ""
    assert (tmp_path / "got").read_text() == repr([f"$HOME; touch {tmp_path}/x", "*"])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "it exited with 3"),
        ("import os; os.kill(os.getpid(), 9)", "it exited with -9"),
        # It ends without reading.
        ("import os; os.close(0); raise SystemExit(4)", "it exited with 4"),
    ],
)
def test_a_command_that_fails_is_one_line(code: str, said: str) -> None:
    told = Recipient(command=(sys.executable, "-c", code, SECRET))
    assert tell(told, ENDED) == f"the notification of {sys.executable} failed: {said}"


def test_a_command_that_does_not_end_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 1.0)
    script = tmp_path / "hang"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\nwait\n")
    script.chmod(0o755)
    said = tell(recipient_of(str(script)), ENDED)
    assert said.endswith("failed: it has not ended after 1 s")
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    deadline = time.monotonic() + 60
    while child.exists() and "(zombie)" not in (child / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://", "with a host"),
        ("http://host:port/", "with a host"),
        ("http://a b/", "with a host"),
        (f"https://user:{SECRET}@host/", "env:WEBHOOK"),
        (f"https://host/?token={SECRET}", "env:WEBHOOK"),
        (f"HTTPS://user:{SECRET}@host/", "env:WEBHOOK"),
        ("true \0", "should be"),
        ("mail 'unfinished", "cannot be taken apart"),
        ("  ", "should be"),
        ("env:", "name of a variable"),
        ("env:A B", "name of a variable"),
    ],
)
def test_what_is_no_recipient_is_refused_by_its_form(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as refused:
        check_recipient(text)
    assert SECRET not in str(refused.value)


def test_a_recipient_is_looked_for_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_OF_A_TEST", raising=False)
    for text, said in [
        ("no-such-program now", "--notify: there is no program no-such-program"),
        ("ftp://host/", "no http"),
        ("env:HOOK_OF_A_TEST", "--notify: the variable HOOK_OF_A_TEST is not set"),
    ]:
        check_recipient(text)
        with pytest.raises(SpecError, match=said):
            recipient_of(text)
    monkeypatch.setenv("HOOK_OF_A_TEST", f"https://u:{SECRET}@host/{SECRET}")
    found = recipient_of("env:HOOK_OF_A_TEST")
    assert found.address.endswith(SECRET)
    assert found.shown == "https://host"
    monkeypatch.setenv("HOOK_OF_A_TEST", f"https://u:{SECRET}@host:{SECRET}/")
    with pytest.raises(SpecError) as refused:
        recipient_of("env:HOOK_OF_A_TEST")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "held",
    [f"hooks.host/{SECRET}", f"ftp://u:{SECRET}@host/", f"htps://host/{SECRET}", f"{SECRET} x"],
)
def test_a_variable_that_names_nobody_is_not_shown(
    held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_OF_A_TEST", held)
    with pytest.raises(SpecError, match="env:HOOK_OF_A_TEST") as refused:
        recipient_of("env:HOOK_OF_A_TEST")
    assert SECRET not in str(refused.value)


def test_what_is_given_is_shown_without_its_password() -> None:
    with pytest.raises(SpecError, match="there is no program ftp://") as refused:
        recipient_of(f"ftp://u:{SECRET}@host/")
    assert SECRET not in str(refused.value)


def test_the_scheme_of_a_url_may_be_in_capitals(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"HTTP://{webhook.host}/hook"
    check_recipient(address)
    monkeypatch.setenv("HOOK_OF_A_TEST", address)
    for text in (address, "env:HOOK_OF_A_TEST"):
        assert tell(recipient_of(text), ENDED) == ""
    assert len(webhook.got) == 2


def test_complete_failed_and_interrupted_runs(
    webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation, "operations", lambda: {"squares": SQUARES})
    monkeypatch.setenv("HOOK", f"http://u:{SECRET}@{webhook.host}/{SECRET}")
    out = tmp_path / "out"

    def run(execute: Execute, prepare: Callable[[], Task]) -> None:
        watched = Monitoring(notify="env:HOOK")
        conduct(prepare, Listener(), lambda: contextlib.nullcontext(execute), watched, str(out))

    def task() -> Task:
        return SquareTask(out, 600, Workers())

    def refused() -> Task:
        raise SpecError(f"nothing\nat https://u:{SECRET}@host/")

    def stopped_by_hand(job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        yield from run_here(job, units[:1])
        raise KeyboardInterrupt

    def doomed(job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        yield failure(units[0].name, FatalError("the disk is full"))

    with pytest.raises(Interrupted):
        run(stopped_by_hand, task)
    with pytest.raises(FatalError):
        run(doomed, task)
    with pytest.raises(SpecError):
        run(run_here, refused)
    run(run_here, task)
    # A run that finds nothing to do is complete as well.
    run(run_here, task)
    documents = [document for _, _, document in webhook.got]
    assert [(each["state"], each["error"]) for each in documents] == [
        ("interrupted", None),
        ("failed", "the disk is full"),
        ("failed", "nothing at https://host/"),
        ("complete", None),
        ("complete", None),
    ]
    stopped, failed, early, complete, idle = documents
    counts = stopped["counts"]
    assert 0 < stopped["this_run"]["images"] == counts["images"] - counts["pending_images"] < 600
    assert failed["this_run"]["units"] == 0
    assert (early["run"], early["counts"], early["this_run"]) == ("", None, None)
    assert complete["this_run"]["images"] + stopped["this_run"]["images"] == 600
    assert idle["counts"] == complete["counts"]
    assert idle["this_run"]["images"] == 0
    assert {each["out"] for each in documents} == {str(out)}
    assert len({each["run"] for each in documents}) == 5
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept


def test_a_notification_that_fails_is_a_line_of_the_command(
    webhook: Webhook, tmp_path: Path, tiny_model: Path
) -> None:
    make_images(tmp_path / "images", 4)
    env = {"HOOK": f"http://u:{SECRET}@{webhook.host}/{SECRET}"}
    command = [
        *("invert", tmp_path / "images", "--out", tmp_path / "out", "--model", tiny_model),
        *("--no-align", "--metrics=none", "--device=cpu", "--notify", "env:HOOK"),
    ]
    webhook.status = 500
    done = restyle(*command, "--steps=2", env=env)
    assert done.returncode == 0, done.stderr
    warning = "warning: the notification of http://127.0.0.1 failed: status 500"
    assert warning in done.stderr.splitlines()
    refused = restyle(*command, "--steps=3", env=env)
    assert refused.returncode == 2
    assert warning in refused.stderr.splitlines()
    first, second = (document for _, _, document in webhook.got)
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert (first["counts"], first["run"]) == (record["counts"], record["run"])
    assert f"error: {second['error']}" in refused.stderr.splitlines()
    kept = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert SECRET.encode() not in b"".join(kept)
    assert SECRET not in done.stderr + done.stdout + refused.stderr
