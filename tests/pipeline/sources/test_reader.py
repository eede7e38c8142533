"""Bytes of inputs from the web and from a store that misbehaves."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import pytest

from restyle.core.errors import FatalError, RejectError, RejectReason, TransientError
from restyle.pipeline.sources import SourceReader, reader
from restyle.pipeline.sources.source_image import SourceImage, image_id
from restyle.pipeline.sources.web.private_hosts import UrlPolicy
from tests.pipeline.sources.listing import listed
from tests.pipeline.sources.tars import packed
from tests.s3_server import FaultyProxy, every, faulty_s3, first

ANYWHERE = UrlPolicy(allow_private=True)
PAGES = {"/a.jpg": (200, b"image"), "/empty.jpg": (200, b""), "/403.jpg": (403, b"no")}


class Web(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = PAGES.get(self.path, (404, b""))
        if self.path == "/once.jpg":
            status, body = (503, b"") if self.asked.count(self.path) == 1 else (200, b"late")
        if self.path == "/down.jpg":
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    Web.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_from_the_web(web: str, tmp_path: Path) -> None:
    names = ["a.jpg", "empty.jpg", "once.jpg", "403.jpg", "gone.jpg", "down.jpg"]
    (tmp_path / "a.txt").write_text("".join(f"{web}/{name}\n" for name in names))
    images = listed(str(tmp_path / "a.txt"))
    read = SourceReader(str(tmp_path / "a.txt"), ANYWHERE).read
    assert [read(image) for image in images[:3]] == [b"image", b"", b"late"]
    for image, said in zip(images[3:], ["status 403", "no such file", "503"], strict=True):
        with pytest.raises(OSError, match=said):
            read(image)
    # What cannot change is asked for once, what may, twice: other hosts are waiting.
    counts = [Web.asked.count(f"/{name}") for name in names]
    assert counts == [1, 1, 2, 1, 1, 2]


def test_a_host_that_is_down_is_a_reject_of_its_images(tmp_path: Path) -> None:
    uri = b"http://127.0.0.1:9/a.jpg"
    with pytest.raises(OSError, match=r"onnect"):
        SourceReader(str(tmp_path), ANYWHERE).read(SourceImage(image_id(uri), "a", uri, -1, ""))


def test_files_that_grew_too_large_are_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: str
) -> None:
    monkeypatch.setattr(reader, "MAX_FILE_BYTES", 4)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12345")
    for uri in (f"file://{path}", f"{web}/a.jpg"):
        with pytest.raises(RejectError) as caught:
            SourceReader("/", ANYWHERE).read(SourceImage("", "a", uri.encode(), -1, ""))
        assert caught.value.reason is RejectReason.TOO_LARGE


def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="no regular file"):
        SourceReader("/").read(SourceImage("", "a", f"file://{tmp_path}/a.jpg".encode(), 1, ""))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setenv("RESTYLE_RETRIES", "2:0.001")
    # Connections are kept for the process, and would lead to the server of another test.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with faulty_s3(monkeypatch) as proxy:
        yield proxy


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_store_that_fails_for_the_moment_is_asked_again(store: FaultyProxy) -> None:
    client = boto3.client("s3")
    members = [(f"{at}.jpg", bytes([at]) * 700) for at in range(3)]
    client.put_object(Bucket="bucket", Key="x/a.tar", Body=packed(members))
    client.put_object(Bucket="bucket", Key="x/b.jpg", Body=b"image")
    store.rule = every(2, "503")
    images = listed("s3://bucket/x")
    read = SourceReader("s3://bucket/x").read
    assert [read(image) for image in images] == [*(data for _, data in members), b"image"]
    assert store.met["503"] > 3
    store.rule = every(1, "503")
    for image in (images[0], images[-1]):
        with pytest.raises(TransientError, match="s3://bucket/x/"):
            SourceReader("s3://bucket/x").read(image)
    with pytest.raises(TransientError, match="cannot list"):
        listed("s3://bucket/x")
    # One object that is closed to us is no reason to stop: it is a reject.
    store.rule = first(99, "403", "GET .*b.jpg")
    with pytest.raises(OSError, match=r"."):
        read(images[-1])
    assert read(images[0]) == members[0][1]


def test_a_format_that_is_not_installed_is_the_job_s_fault() -> None:
    image = SourceImage("0" * 32, "a.toy::1", b"file:///a.toy", 1, "1", "toy:1")
    with pytest.raises(FatalError, match=r"a\.toy::1 was planned by a package that reads .* toy"):
        SourceReader("/").read(image)
