"""Web servers that redirect, lie about lengths, ignore ranges or never end."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import itertools
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from restyle.core.errors import RejectError, RejectReason
from restyle.pipeline.sources import SourceReader, reader
from restyle.pipeline.sources.options import InputOptions
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.sources.web import client
from restyle.pipeline.sources.web.client import Web
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from tests.hostile_shards import written
from tests.pipeline.sources.listing import listed
from tests.pipeline.sources.tars import packed

ANYWHERE = UrlPolicy(allow_private=True)
BODY = bytes(range(256)) * 1000
LARGE = random.Random(0).randbytes(1 << 20)


class Server(http.server.BaseHTTPRequestHandler):
    asked: list[tuple[str, str]]
    pages: dict[str, bytes]
    sent: int

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Range", "")))
        kind, _, rest = self.path[1:].partition("/")
        getattr(self, f"do_{kind}")(rest)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_whole(self, name: str) -> None:
        """Ignores which part is asked for."""
        self.answer(200, self.pages.get(name, BODY), ETag='"v1"')

    def do_ranged(self, name: str) -> None:
        body = self.pages.get(name, BODY)
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        if first >= len(body):
            self.answer(416, b"", Content_Range=f"bytes */{len(body)}")
            return
        part = body[first : last + 1]
        stated = f"bytes {first}-{first + len(part) - 1}/{len(body)}"
        self.answer(206, part, Content_Range=stated, ETag='"v2"')

    def do_shifted(self, _: str) -> None:
        self.answer(206, BODY[:10], Content_Range=f"bytes 5-14/{len(BODY)}")

    def do_endless(self, _: str) -> None:
        """Chunks without end and without a length."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for _number in range(4096):
                self.wfile.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                type(self).sent += 1 << 20
        except OSError:
            self.close_connection = True

    def do_longer(self, _: str) -> None:
        """More than was said."""
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(BODY)
        self.close_connection = True

    def do_shorter(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)
        self.close_connection = True

    def do_packed(self, _: str) -> None:
        self.answer(200, gzip.compress(bytes(50 << 20)), Content_Encoding="gzip")

    def do_silent(self, _: str) -> None:
        """Says nothing until it is told to end."""
        Server.silence.wait(60)
        self.close_connection = True

    def do_drip(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        while not Server.silence.wait(0.05):
            try:
                self.wfile.write(b"x")
            except OSError:
                break
        self.close_connection = True

    def do_to(self, target: str) -> None:
        self.answer(302, b"", Location=target)

    silence: threading.Event

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with served() as address:
        yield address


class served:  # noqa: N801 (used as a function)
    """A server of its own; the address that it is at."""

    def __enter__(self) -> str:
        Server.asked, Server.pages, Server.sent = [], {}, 0
        Server.silence = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        Server.silence.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def entry(url: str) -> SourceImage:
    return SourceImage(image_id(url.encode()), url, url.encode(), -1, "")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.0.0.1", "[::ffff:7f00:1]"])
def test_entries_do_not_lead_to_this_machine(tmp_path: Path, server: str, host: str) -> None:
    url = f"http://{host}:{server.rpartition(':')[2]}/whole/a.jpg"
    (tmp_path / "list.txt").write_text(f"{url}\n{url.replace('a.jpg', 'a.tar')}\n")
    image, shard = listed(tmp_path / "list.txt")
    assert "--allow-private-urls" in shard.fault
    with pytest.raises(OSError, match=r"private network, .*--allow-private-urls allows it"):
        SourceReader(str(tmp_path / "list.txt")).read(image)
    assert Server.asked == []
    if host != "[::ffff:7f00:1]":
        # aiohttp spells it so that not every system connects.
        assert SourceReader("/", ANYWHERE).read(image) == BODY


def test_the_host_that_was_named_is_free_and_redirects_from_it_are_not(server: str) -> None:
    with served() as other:
        policy = UrlPolicy(own=f"{server}/list.txt")
        web = Web(policy)
        assert web.read(f"{server}/whole/a", 0, 1 << 20) == BODY
        assert web.read(f"{server}/to//whole/a", 0, 1 << 20) == BODY
        for target in (f"{other}/whole/a", f"//{other[7:]}/whole/a", "http://169.254.169.254/"):
            with pytest.raises(OSError, match="private network"):
                web.read(f"{server}/to/{target}", 0, 10)
        assert Web(ANYWHERE).read(f"{server}/to/{other}/whole/a", 0, 1 << 20) == BODY


def test_redirects_end_and_stay_on_the_web(server: str) -> None:
    web = Web(ANYWHERE)
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/a", "s3://bucket/key"):
        with pytest.raises(OSError, match="what is no web address"):
            web.read(f"{server}/to/{target}", 0, 10)
    Server.asked.clear()
    with pytest.raises(OSError, match="redirects more than 5 times"):
        web.read(f"{server}/to/" * 9, 0, 10)
    assert len(Server.asked) <= 7


def test_never_more_is_held_than_is_used(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stream of 4 GB that ignores which part was asked for."""
    monkeypatch.setattr(reader, "MAX_FILE_BYTES", 8 << 20)
    read = SourceReader("/", ANYWHERE).read
    told: list[int] = []
    tracemalloc.start()
    with pytest.raises(RejectError) as caught:
        read(entry(f"{server}/endless/a.jpg"), told.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason is RejectReason.TOO_LARGE
    # The server's own thread holds a piece or two here.
    assert peak < 32 << 20
    assert Server.sent < 256 << 20
    assert told[-1] == (8 << 20) + 1
    assert all(later - before <= 1 << 20 for before, later in itertools.pairwise(told))


def test_lengths_that_are_not_true(server: str) -> None:
    web = Web(ANYWHERE)
    # What follows may be noticed or not, but is never taken for the file.
    with contextlib.suppress(OSError):
        assert web.read(f"{server}/longer/a", 0, 1 << 20) == BODY[:10]
    with pytest.raises(OSError, match=r"."):
        web.read(f"{server}/shorter/a", 0, 1 << 20)
    # What is packed stays packed: it is no image then.
    assert len(web.read(f"{server}/packed/a", 0, 100 << 20)) < 1 << 20


def test_parts_of_files(server: str) -> None:
    web = Web(ANYWHERE)
    assert web.read(f"{server}/ranged/a", 1000, 50) == BODY[1000:1050]
    assert web.read(f"{server}/ranged/a", len(BODY) - 5, 50) == BODY[-5:]
    assert web.read(f"{server}/ranged/a", len(BODY), 50) == b""
    assert web.size_and_etag(f"{server}/ranged/a") == (len(BODY), '"v2"')
    assert web.size_and_etag(f"{server}/whole/a") == (len(BODY), '"v1"')
    assert web.read(f"{server}/whole/a", 0, 50) == BODY[:50]
    with pytest.raises(OSError, match="does not send parts"):
        web.read(f"{server}/whole/a", 1000, 50)
    with pytest.raises(OSError, match="another part"):
        web.read(f"{server}/shifted/a", 0, 50)


def test_shards_on_the_web(server: str, tmp_path: Path) -> None:
    Server.pages["a.tar"] = packed([("1.jpg", b"one"), ("2.jpg", b"two")])
    Server.pages["a.parquet"] = written(pa.table({"image": [b"row", LARGE]}))
    lines = [f"{server}/{kind}/{name}" for name in Server.pages for kind in ("ranged", "whole")]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    images = listed(tmp_path / "list.txt", InputOptions(allow_private_urls=True))
    *sound, faulty = images
    # Tars are read from the beginning on, so that this one is known; its members are out of reach.
    kinds = ["ranged", "ranged", "whole", "whole", "ranged", "ranged"]
    assert [image.uri.split(b"/")[3].decode() for image in sound] == kinds
    read = SourceReader("/", ANYWHERE).read
    assert [read(sound[at]) for at in (0, 1, 4, 5)] == [b"one", b"two", b"row", LARGE]
    with pytest.raises(OSError, match="does not send parts"):
        read(sound[2])
    assert "does not send parts" in faulty.fault


@pytest.mark.parametrize("kind", ["silent", "drip"])
def test_servers_that_never_end_cost_their_time_once(
    server: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(client, "LONGEST", 0.5)
    began = time.monotonic()
    with pytest.raises(OSError, match="did not answer in time"):
        Web(ANYWHERE).read(f"{server}/{kind}/a", 0, 1 << 20)
    assert len(Server.asked) == 1
    # Far from the minute that a store has.
    assert time.monotonic() - began < 30
