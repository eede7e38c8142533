"""HTTP server of a page, protected by a token.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from restyle.core.errors import RestyleError, SpecError, reason_of
from restyle.core.shown_text import visible
from restyle.pipeline.viewer.answers import Answer
from restyle.pipeline.viewer.page import asset, locked_page, page
from restyle.pipeline.viewer.requests import answer, upload
from restyle.pipeline.viewer.run import ViewedRun
from restyle.pipeline.viewer.sliders.uploads import MAX_BYTES

_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_LOCKED_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_KINDS = {"css": "text/css", "js": "text/javascript"}
_LOCKED = "Open the address that restyle view has printed, whole."
_MOST_FIELDS = 100
_DIGITS = 12
_IDLE_SECONDS = 60


class Site(Protocol):
    """A page with its data."""

    @property
    def accepts_uploads(self) -> bool:
        """Whether photographs may be sent to it."""

    def page(self, query: Mapping[str, str]) -> bytes:
        """The HTML for some parameters."""

    def answer(self, path: str, query: Mapping[str, str]) -> Answer | None:
        """Answer a request for data; None for an unknown path."""

    def upload(self, query: Mapping[str, str], data: bytes) -> Answer:
        """Take a photograph."""

    def close(self) -> None:
        """Stop child processes."""


@dataclass(frozen=True)
class RunsSite:
    """The page of inversions.

    Attributes:
        runs: the first one is shown first.
        accepts_uploads: whether photographs may be dropped on the page.
    """

    runs: Sequence[ViewedRun]
    accepts_uploads: bool = False

    def page(self, query: Mapping[str, str]) -> bytes:
        """The HTML; its scripts read what is shown from the fragment of the address."""
        del query
        for run in self.runs:
            run.refresh()
        return page([run.about() for run in self.runs], accepts_uploads=self.accepts_uploads)

    def answer(self, path: str, query: Mapping[str, str]) -> Answer | None:
        """See :func:`restyle.pipeline.viewer.requests.answer`."""
        return answer(self.runs, path, query)

    def upload(self, query: Mapping[str, str], data: bytes) -> Answer:
        """See :func:`restyle.pipeline.viewer.requests.upload`."""
        return upload(self.runs, query, data)

    def close(self) -> None:
        """Stop the child processes that read photographs."""
        for run in self.runs:
            run.close()


class ViewServer(ThreadingHTTPServer):
    """Serves a page until it is shut down.

    Args:
        site: the page; or runs, for their page without uploads.
        host: to listen on.
        port: 0 for any free port.

    Attributes:
        site: the page.
        token: secret that requests must present.

    Raises:
        SpecError: the address cannot be listened on.
    """

    daemon_threads = True
    # A page opens connections for all its pictures at once.
    request_queue_size = 128

    def __init__(self, site: Site | Sequence[ViewedRun], host: str, port: int) -> None:
        self.site: Site = RunsSite(site) if isinstance(site, Sequence) else site
        self.token = secrets.token_urlsafe(24)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise SpecError(f"cannot listen on {host} port {port}: {reason_of(error)}") from error

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

    def server_close(self) -> None:
        """Stop listening, and the child processes that read photographs."""
        super().server_close()
        self.site.close()

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
        parsed = self._parsed()
        if parsed is None:
            return
        parts, query = parsed
        if parts.path == "/" and self._is_token(query.get("token", "")):
            # Redirects, so that the token is not in an address that the user may pass on.
            cookie = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            self._send(
                http.HTTPStatus.SEE_OTHER, b"", "text/plain", Location="/", Set_Cookie=cookie
            )
        elif not self._is_token(self._cookie()):
            self._lock_out(parts.path)
        else:
            self._answer(lambda: self._found(parts.path, query))

    def do_POST(self) -> None:
        # What is not read of a body would be taken for the next request.
        self.close_connection = True
        parsed = self._parsed()
        if parsed is None:
            return
        parts, query = parsed
        if not self._is_token(self._cookie()):
            self._lock_out(parts.path)
        elif not self.server.site.accepts_uploads or parts.path != "/upload":
            self._refuse(http.HTTPStatus.NOT_IMPLEMENTED, "nothing is taken here")
        elif not self._is_from_page():
            self._refuse(http.HTTPStatus.FORBIDDEN, "only the page itself may send photographs")
        elif (data := self._body()) is not None:
            self._answer(lambda: self.server.site.upload(query, data))

    do_HEAD = do_GET  # noqa: N815 (its base's names)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its base's name)
        """Log nothing, because addresses of requests contain names and the token."""

    def _parsed(self) -> tuple[SplitResult, dict[str, str]] | None:
        """The address of the request and its parameters; None if it was refused."""
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._refuse(http.HTTPStatus.BAD_REQUEST, "this is no address")
            return None
        try:
            return parts, dict(parse_qsl(parts.query, True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            self._refuse(http.HTTPStatus.BAD_REQUEST, "too many parameters")
            return None

    def _is_from_page(self) -> bool:
        """Whether a request comes from the page; other ports of this host get the cookie, too."""
        origin = self.headers.get("Origin")
        return origin is None or urlsplit(origin).netloc == self.headers.get("Host", "")

    def _body(self) -> bytes | None:
        """The body of the request; None if it was refused."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._refuse(http.HTTPStatus.LENGTH_REQUIRED, "the length of the photograph is missing")
            return None
        if len(length) > _DIGITS or int(length) > MAX_BYTES:
            message = f"the photograph has more than {MAX_BYTES:,} bytes, which is the limit"
            self._refuse(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
            return None
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            self._refuse(http.HTTPStatus.BAD_REQUEST, "the photograph did not arrive whole")
            return None
        return data

    def _lock_out(self, path: str) -> None:
        if path == "/":
            self._send(http.HTTPStatus.FORBIDDEN, locked_page(), "text/html", _LOCKED_POLICY)
        else:
            self._refuse(http.HTTPStatus.FORBIDDEN, _LOCKED)

    def _answer(self, find: Callable[[], Answer | None]) -> None:
        try:
            found = find()
        except SpecError as error:
            self._refuse(http.HTTPStatus.BAD_REQUEST, str(error))
        except RestyleError as error:
            self._refuse(http.HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        else:
            if found is None:
                self._refuse(http.HTTPStatus.NOT_FOUND, "there is nothing at this address")
                return
            headers = {"Cache_Control": "private, max-age=3600"}
            if not found.may_be_kept:
                headers["Cache_Control"] = "no-store"
            if found.saved_as:
                headers["Content_Disposition"] = f'attachment; filename="{found.saved_as}"'
            self._send(http.HTTPStatus.OK, found.body, found.kind, **headers)

    def _found(self, path: str, query: dict[str, str]) -> Answer | None:
        if path == "/":
            return Answer(self.server.site.page(query), "text/html")
        name = path.removeprefix("/")
        try:
            return Answer(asset(name), _KINDS[name.rpartition(".")[2]])
        except KeyError:
            return self.server.site.answer(path, query)

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

    def _send(
        self,
        status: http.HTTPStatus,
        body: bytes,
        kind: str,
        policy: str = _POLICY,
        **headers: str,
    ) -> None:
        self.send_response(status)
        text = kind.startswith("text/")
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if text else kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
