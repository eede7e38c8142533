"""An S3 server on loopback, and one in front of it that misbehaves on request.

The first is moto's. The second passes requests on, except those that a test's rule picks out, and
refuses whatever needs conditional writes, which many servers do not have.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

SECRET = "not-to-be-written-anywhere"  # noqa: S105 (that is the point)

Rule = Callable[[str, str], str]
"""From method and path of a request to the fault that it meets; empty for none."""

_ERRORS = {
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "500": (500, "InternalError", "We encountered an internal error."),
    "403": (403, "AccessDenied", "Access Denied"),
    "skewed": (403, "RequestTimeTooSkewed", "The difference is too large."),
    "conditional": (501, "NotImplemented", "A header you provided is not implemented."),
}
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to a server, or fails them.

    Attributes:
        rule: says which request meets which fault: ``503``, ``500``, ``403``, ``skewed``,
            ``reset`` (the connection, unanswered), ``hang`` (nothing at all until :meth:`close`),
            ``lost`` (done, but the answer is not delivered), ``cut`` (half of the answer).
        met: how often each fault was dealt out.
        seen: requests by method.
    """

    daemon_threads = True

    def __init__(self, behind: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.rule: Rule = lambda _method, _path: ""
        self.met: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.ending = threading.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, method: str, path: str) -> str:
        # One at a time, so that rules may count.
        with self._guard:
            self.seen[method] += 1
            fault = self.rule(method, path)
            if fault:
                self.met[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what these tests are about; nothing is printed."""

    def close(self) -> None:
        self.ending.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its base's name)
        pass

    _early: str | None = None

    def handle_expect_100(self) -> bool:
        self._early = self.server.fault(self.command, self.path)
        if self._early == "hang":
            # Before the client has sent what it was about to send.
            self.server.ending.wait()
            self._reset()
            return False
        return super().handle_expect_100()

    def _serve(self) -> None:
        fault, self._early = self._early, None
        if fault is None:
            fault = self.server.fault(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not fault and {"if-none-match", "if-match"} & {name.lower() for name in self.headers}:
            fault = "conditional" if self.command == "PUT" else ""
        if fault == "hang":
            self.server.ending.wait()
            self._reset()
        elif fault == "reset":
            self._reset()
        elif fault in _ERRORS:
            self._refuse(*_ERRORS[fault])
        else:
            self._forward(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 (its base's names)

    def _forward(self, body: bytes, fault: str) -> None:
        connection = http.client.HTTPConnection(*self.server.behind, timeout=60)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in (_HOP | {"expect"})
        }
        connection.request(self.command, self.path, body or None, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if fault == "lost":
            self._reset()
            return
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault == "cut":
            self.wfile.write(data[: len(data) // 2])
            self._reset()
        elif self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str, message: str) -> None:
        data = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _reset(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        # Lingering for no time at all makes the kernel send a reset instead of an end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def first(times: int, fault: str, pattern: str = ".*") -> Rule:
    """The first so many requests, written ``METHOD /path``, that match a pattern fail."""
    left = times

    def rule(method: str, path: str) -> str:
        nonlocal left
        if left and re.search(pattern, f"{method} {path}"):
            left -= 1
            return fault
        return ""

    return rule


def every(nth: int, fault: str, pattern: str = ".*") -> Rule:
    """Every ``nth`` request that matches a pattern fails, the first one too."""
    count = 0

    def rule(method: str, path: str) -> str:
        nonlocal count
        if not re.search(pattern, f"{method} {path}"):
            return ""
        count += 1
        return fault if count % nth == 1 or nth == 1 else ""

    return rule


@contextlib.contextmanager
def faulty_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A server with the bucket ``bucket``, which the environment points all clients to."""
    import boto3
    from s3fs import S3FileSystem

    # A file system that an earlier test has made knows that test's server alone.
    S3FileSystem.clear_instance_cache()
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    address = "{}:{}".format(*moto.get_host_and_port())
    # Its buckets belong to the process, not to the server.
    urllib.request.urlopen(f"http://{address}/moto-api/reset", b"").close()
    proxy = FaultyProxy(moto.get_host_and_port())
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield proxy
    finally:
        S3FileSystem.clear_instance_cache()
        proxy.close()
        moto.stop()
