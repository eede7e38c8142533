"""HTTP server of the page, protected by a token.

The token is part of the printed address and is stored in a cookie with SameSite=Strict, so that
other users of the machine and other sites in the browser have no access.
"""

from __future__ import annotations

import hmac
import http
import json
import secrets
import socket
import sys
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from restyle.core.errors import RestyleError, SpecError
from restyle.core.shown_text import visible
from restyle.pipeline.viewer.page import asset, page
from restyle.pipeline.viewer.requests import Answer, answer
from restyle.pipeline.viewer.run import ViewedRun

_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KINDS = {"css": "text/css", "js": "text/javascript"}
_MOST_FIELDS = 100
_IDLE_SECONDS = 60


class ViewServer(ThreadingHTTPServer):
    """Serves runs until it is shut down.

    Args:
        runs: the first one is shown first.
        host: to listen on.
        port: 0 for any free port.

    Attributes:
        runs: the served runs.
        token: secret that requests must present.

    Raises:
        SpecError: the address cannot be listened on.
    """

    daemon_threads = True
    # A page opens connections for all its pictures at once.
    request_queue_size = 128

    def __init__(self, runs: Sequence[ViewedRun], host: str, port: int) -> None:
        self.runs = runs
        self.token = secrets.token_urlsafe(24)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SpecError(f"cannot listen on {host} port {port}: {reason}") from error

    @property
    def url(self) -> str:
        """The address of the page, with the token."""
        host, port = str(self.server_address[0]), self.server_address[1]
        if host in ("0.0.0.0", "::"):  # noqa: S104 (asked for)
            host = socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Name of the cookie, with the port, because cookies are shared between ports."""
        return f"restyle-{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore closed connections; print other errors to standard error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version = "restyle"
    sys_version = ""
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._refuse(http.HTTPStatus.BAD_REQUEST, "this is no address")
            return
        try:
            query = dict(parse_qsl(parts.query, True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            self._refuse(http.HTTPStatus.BAD_REQUEST, "too many parameters")
            return
        if parts.path == "/" and self._is_token(query.get("token", "")):
            # Redirects, so that the token is not in an address that the user may pass on.
            cookie = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            self._send(
                http.HTTPStatus.SEE_OTHER, b"", "text/plain", Location="/", Set_Cookie=cookie
            )
        elif not self._is_token(self._cookie()):
            self._refuse(
                http.HTTPStatus.FORBIDDEN, "Open the address that restyle view has printed, whole."
            )
        else:
            self._answer(parts.path, query)

    do_HEAD = do_GET  # noqa: N815 (its base's names)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its base's name)
        """Log nothing, because addresses of requests contain names and the token."""

    def _answer(self, path: str, query: dict[str, str]) -> None:
        try:
            found = self._found(path, query)
        except SpecError as error:
            self._refuse(http.HTTPStatus.BAD_REQUEST, str(error))
        except RestyleError as error:
            self._refuse(http.HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        else:
            if found is None:
                self._refuse(http.HTTPStatus.NOT_FOUND, "there is nothing at this address")
                return
            kept = "private, max-age=3600" if found.may_be_kept else "no-store"
            self._send(http.HTTPStatus.OK, found.body, found.kind, Cache_Control=kept)

    def _found(self, path: str, query: dict[str, str]) -> Answer | None:
        if path == "/":
            return Answer(page([run.about() for run in self.server.runs]), "text/html")
        name = path.removeprefix("/")
        try:
            return Answer(asset(name), _KINDS[name.rpartition(".")[2]])
        except KeyError:
            return answer(self.server.runs, path, query)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.server.token.encode())

    def _cookie(self) -> str:
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return ""
        found = cookies.get(self.server.cookie)
        return found.value if found is not None else ""

    def _refuse(self, status: http.HTTPStatus, message: str) -> None:
        body = json.dumps({"error": visible(message)}).encode()
        self._send(status, body, "application/json", Cache_Control="no-store")

    def _send(self, status: http.HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        text = kind.startswith("text/")
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if text else kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
