"""Ray's job server as far as ``restyle submit`` uses it, in this process, with jobs at will."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

STARTED = 1_767_225_600_000
"""2026-01-01 00:00:00 UTC in milliseconds."""


class FakeJobServer:
    """Jobs by id; ``failures`` are answered first, ``before`` is called with each request."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.received: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.failures: list[tuple[int, bytes]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.address = ""
        self.version = (200, b'{"version": "4", "ray_version": "2.60.0", "ray_commit": "x"}')

    def change(self, submission: str, **fields: object) -> None:
        self.jobs[submission].update(fields)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        if path == "/api/version":
            return self.version
        self.before(method, path)
        if self.failures:
            return self.failures.pop(0)
        if path == "/api/jobs/" and method == "POST":
            self.received.append(body)
            if body["submission_id"] in self.jobs:
                return 400, f"ValueError: Job {body['submission_id']} already exists".encode()
            self.jobs[body["submission_id"]] = {
                "type": "SUBMISSION",
                "submission_id": body["submission_id"],
                "status": "RUNNING",
                "entrypoint": body["entrypoint"],
                "start_time": STARTED,
            }
            return self._json(dict.fromkeys(("job_id", "submission_id"), body["submission_id"]))
        if path == "/api/jobs/":
            return self._json(list(self.jobs.values()))
        submission, _, what = path.removeprefix("/api/jobs/").partition("/")
        if submission not in self.jobs:
            return 404, b"no such job"
        if what == "logs":
            return self._json({"logs": self.logs.get(submission, "")})
        if what == "stop":
            self.change(submission, status="STOPPED")
            return self._json({"stopped": True})
        return self._json(self.jobs[submission])

    def _json(self, value: object) -> tuple[int, bytes]:
        return 200, json.dumps(value).encode()


@pytest.fixture
def job_server() -> Iterator[FakeJobServer]:
    fake = FakeJobServer()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            fake.headers = dict(self.headers)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            code, data = fake.answer(self.command, self.path, body)
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
