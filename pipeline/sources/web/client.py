"""Read files from web servers with bounded memory.

Web servers are not trusted: they may redirect to any address, state a wrong length, ignore the
requested range, or never finish a response.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import functools
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from restyle.pipeline.sources.web.private_hosts import REFUSED, UrlPolicy, checked_socket
from restyle.pipeline.storage.addresses import storage_timeout

if TYPE_CHECKING:
    import aiohttp

WEB = (b"http://", b"https://")

LONGEST = 300.0
"""Seconds allowed for one request."""

_CONNECT_TIMEOUT = 10.0
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OK, _PARTIAL, _NO_SUCH_RANGE = 200, 206, 416
_GONE = frozenset({404, 410})
# Status codes after which a retry may succeed.
_PASSING_STATUS = frozenset({408, 425, 429})
_AT_ONCE = 1 << 20
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Web:
    """Reader of files on web servers; thread-safe.

    Args:
        policy: which hosts addresses, including redirects, may lead to.
    """

    def __init__(self, policy: UrlPolicy) -> None:
        self._policy = policy

    def read(
        self, url: str, start: int, length: int, sized: Callable[[int], None] = lambda _size: None
    ) -> bytes:
        """Read ``length`` bytes from an offset; fewer only at the end of the file.

        A failure that may be temporary is retried only once, so that one unreachable host does not
        delay the other inputs.

        Args:
            url: URL of the file.
            start: offset in bytes.
            length: number of bytes, at least 1.
            sized: callback that receives the number of bytes about to be held, before memory use
                grows beyond the last reported number.

        Raises:
            OSError: the file cannot be read, or the policy forbids its host.
        """
        for is_last in (False, True):
            try:
                return self._read(url, start, length, sized)
            except _Final as error:
                raise OSError(errno.ENOENT, str(error)) from error
            except Exception as error:
                if is_last:
                    raise OSError(_reason(error)) from error
        raise AssertionError("the last try returns or raises")

    def size_and_etag(self, url: str) -> tuple[int, str]:
        """Return the size of a file in bytes (-1 if unknown) and its ETag (empty if unknown).

        Raises:
            OSError: as :meth:`read`.
        """
        answer = _Answer(self, url, 0, 1)
        try:
            answer.begin()
            return answer.size, answer.etag
        except _Final as error:
            raise OSError(errno.ENOENT, str(error)) from error
        except Exception as error:
            raise OSError(_reason(error)) from error
        finally:
            answer.end()

    def session(self, url: str) -> aiohttp.ClientSession:
        """Return the HTTP session for an address; call it inside the event loop."""
        return _session(asyncio.get_running_loop(), self._policy.allows(url))

    def _read(self, url: str, start: int, length: int, sized: Callable[[int], None]) -> bytes:
        answer = _Answer(self, url, start, length)
        data = bytearray()
        try:
            answer.begin()
            while len(data) < length:
                sized(min(len(data) + _AT_ONCE, length))
                piece = answer.more()
                if not piece:
                    break
                data += piece[: length - len(data)]
            return bytes(data)
        finally:
            answer.end()


class _Final(Exception):  # noqa: N818 (it says that no other try follows)
    """An error that a retry cannot resolve."""


class _Answer:
    """A server's response to one range request.

    Attributes:
        size: size of the whole file in bytes, -1 if the server does not state it.
        etag: ETag of the file, or empty.
    """

    def __init__(self, web: Web, url: str, start: int, length: int) -> None:
        from fsspec.asyn import get_loop

        self._web, self._url = web, url
        self._start, self._length = start, length
        self._loop = get_loop()
        self._response: Any = None
        self._left = LONGEST
        self._is_empty = False
        self.size, self.etag = -1, ""

    def begin(self) -> None:
        """Send the request and check the status and headers of the response.

        Raises:
            _Final: the server refuses the request, or the response is unusable.
            OSError: the server fails; a retry may succeed.
        """
        response = self._response = self._waited(self._get)
        status = response.status
        if status in _GONE:
            raise _Final("the server has no such file")
        stated = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if stated and stated[2] != "*":
            self.size = int(stated[2])
        if status == _NO_SUCH_RANGE:
            self._is_empty = True
        elif status == _PARTIAL:
            if not stated or stated[1] is None or int(stated[1]) != self._start:
                raise _Final("the server sends another part than was asked for")
        elif status == _OK:
            if self._start:
                raise _Final("the server does not send parts of files")
            self.size = -1 if response.content_length is None else response.content_length
        elif 400 <= status < 500 and status not in _PASSING_STATUS:
            raise _Final(f"the server refuses it (status {status})")
        else:
            raise OSError(f"the server fails (status {status})")
        self.etag = response.headers.get("ETag", "")

    def more(self) -> bytes:
        """Return the next piece of the body; empty at the end."""
        if self._is_empty:
            return b""
        piece: bytes = self._waited(self._piece)
        return piece

    def end(self) -> None:
        """Close the response, even if it is incomplete."""
        if self._response is not None:
            self._loop.call_soon_threadsafe(self._response.close)
            self._response = None

    def _waited(self, ask: Callable[[], Any]) -> Any:
        """Run a coroutine in the event loop within the remaining time."""
        from fsspec.asyn import sync

        began = time.monotonic()

        async def limited() -> Any:
            return await asyncio.wait_for(ask(), max(self._left, 0.001))

        try:
            return sync(self._loop, limited)
        except TimeoutError as error:
            # Either the total time is used up, or the server has sent nothing for too long.
            raise _Final("the server did not answer in time") from error
        finally:
            self._left -= time.monotonic() - began

    async def _get(self) -> Any:
        url = self._url
        last = self._start + self._length - 1
        headers = {"Range": f"bytes={self._start}-{last}"}
        for _ in range(_MOST_REDIRECTS + 1):
            session = self._web.session(url)
            response = await session.get(url, headers=headers, allow_redirects=False)
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or not target:
                return response
            response.close()
            url = urljoin(url, target)
            if not url.lower().startswith(("http://", "https://")):
                raise _Final("the server redirects to what is no web address")
        raise _Final(f"the server redirects more than {_MOST_REDIRECTS} times")

    async def _piece(self) -> bytes:
        piece: bytes = await self._response.content.read(_AT_ONCE)
        return piece


@functools.cache
def _session(loop: asyncio.AbstractEventLoop, is_free: bool) -> aiohttp.ClientSession:
    """Return this process's session: unrestricted if ``is_free``, else for public hosts only."""
    import aiohttp

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=None if is_free else checked_socket),
        # Cookies would reveal to one server which files another server holds.
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=storage_timeout()
        ),
        # The size of compressed data is known only after decompression.
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
    )

    def close() -> None:
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(2)

    atexit.register(close)
    return session


def _reason(error: Exception) -> str:
    # Only the first line: the other lines of a parser's message quote the input.
    text = (str(error).splitlines() or [""])[0].strip()
    return REFUSED if REFUSED in text else text[:200] or type(error).__name__
