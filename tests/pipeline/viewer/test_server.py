"""The server as HTTP clients see it: who gets in, what it answers, and what it refuses."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restyle.core import load_model
from restyle.core.editing.lookup import find_direction
from restyle.core.editing.strengths import apply
from restyle.core.errors import SpecError
from restyle.pipeline import read_latents
from restyle.pipeline.accounting.run_record import write_run
from restyle.pipeline.results.faces import Selection
from restyle.pipeline.storage.claim import now, own_claim
from restyle.pipeline.viewer.export import export
from restyle.pipeline.viewer.run import ViewedRun
from restyle.pipeline.viewer.server import ViewServer
from tests.browser import served
from tests.pipeline.fabricated import Made, fabricate, picture, record
from tests.pipeline.viewer.conftest import FACES, REJECTS, Shown
from tests.s3_server import every, faulty_s3


@pytest.fixture(scope="module")
def server(shown: Shown) -> Iterator[ViewServer]:
    with served(shown.runs()) as server:
        yield server


def get(
    server: ViewServer, path: str, cookie: str | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    cookie = f"{server.cookie}={server.token}" if cookie is None else cookie
    connection.request(method, path, headers={"Cookie": cookie})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def data(server: ViewServer, path: str) -> Any:
    status, _, body = get(server, path)
    assert status == 200, body
    return json.loads(body)


def pixels(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def test_nothing_without_the_token(server: ViewServer) -> None:
    for path in ("/", "/view.js", "/data/faces", "/picture/0/0/0", "/edit/0/0", "/?token=wrong"):
        for cookie in ("", f"{server.cookie}=wrong", "restyle=x; ; =", f"{server.cookie}=\xe9"):
            status, _, body = get(server, path, cookie)
            assert (status, b"printed" in body) == (403, True)


def test_who_has_no_token_sees_a_page(server: ViewServer) -> None:
    status, headers, body = get(server, "/", "")
    assert (status, headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    page = body.decode()
    assert "restyle view" in page
    # Nothing of the runs, and nothing that would need the token.
    assert "run" not in page.partition("<body>")[2].replace("running", "")
    assert not {"src=", "href=", "<script"} & set(page.split())
    assert "script-src" not in headers["Content-Security-Policy"]


def test_the_token_becomes_a_cookie(server: ViewServer) -> None:
    status, headers, _ = get(server, f"/?token={server.token}", "")
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    status, headers, body = get(server, "/", cookie.partition(";")[0])
    assert status == 200
    assert server.token not in body.decode()
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "line",
    [
        "GET http://[::1 HTTP/1.1",
        "GET http://]/ HTTP/1.1",
        "HEAD http://[v1.]/?token=x HTTP/1.1",
        "GET http://[not-an-address]/ HTTP/1.1",
    ],
)
def test_an_address_that_is_none_is_refused(
    server: ViewServer, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(server.server_address[:2], timeout=60) as connection:
        connection.sendall(f"{line}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert capfd.readouterr() == ("", "")


def test_many_connections_wait_to_be_accepted(shown: Shown) -> None:
    server = ViewServer(shown.runs(), "127.0.0.1", 0)
    waiting = [
        socket.create_connection(server.server_address[:2], timeout=5)
        for _ in range(server.request_queue_size // 2)
    ]
    assert len(waiting) > 50
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        for connection in waiting:
            with connection:
                connection.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 403 ")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_names_are_escaped(server: ViewServer) -> None:
    page = get(server, "/")[2].decode()
    assert "<b>run" not in page
    rows = data(server, "/data/faces?run=0")["rows"]
    assert rows[2]["source"] == "two\\nlines\\tand a tab.jpg"
    assert rows[3]["source"] == "right\\u202eto left.jpg"


def test_pages_of_faces(server: ViewServer) -> None:
    first = data(server, "/data/faces?run=0")
    assert (first["total"], first["pages"], len(first["rows"])) == (FACES, 3, 60)
    last = data(server, "/data/faces?run=0&page=99&sort=lpips&falling=1")
    assert (last["page"], len(last["rows"])) == (2, FACES - 120)
    values = [row["metrics"]["lpips"] for row in last["rows"]]
    assert values == sorted(values, reverse=True)
    few = data(server, "/data/faces?lpips.low=0.1&lpips.high=0.15&name=00")["rows"]
    assert few
    assert all(0.1 <= row["metrics"]["lpips"] <= 0.15 for row in few)


def test_two_runs_beside_each_other(server: ViewServer) -> None:
    rows = data(server, "/data/faces?with=1&sort=difference:lpips")["rows"]
    there = [row["other"]["metrics"]["lpips"] - row["metrics"]["lpips"] for row in rows]
    assert there == sorted(there)
    alone = data(server, "/data/faces?with=1&page=2&sort=difference:lpips")["rows"][-20:]
    assert [row["other"] for row in alone] == [None] * 20
    face = data(server, "/data/face?with=1&face=4")
    assert face["other"]["image_id"] == face["image_id"]
    assert (face["pictures"], face["other"]["pictures"]) == ([0, 1, 2, 3], [0, 1, 2])


def test_steps_of_a_face(server: ViewServer) -> None:
    face = data(server, "/data/face?face=70")
    # The first step has none before it.
    assert face["changes"] == [2, 3]
    assert face["scale"] > 0
    assert len(face["steps"]) == 3
    assert face["steps"][2]["lpips"] == pytest.approx(face["metrics"]["lpips"])
    # Colours stand in no order that a test would know: one of the eight there are.
    for step in range(4):
        seen = pixels(get(server, f"/picture/0/70/{step}")[2])
        made = [pixels(picture(colour, step, 16)) for colour in range(8)]
        assert any((seen == each).all() for each in made)
    last = pixels(get(server, "/picture/0/70/-1")[2])
    assert (last == pixels(get(server, "/picture/0/70/3")[2])).all()


def test_a_face_is_found_by_its_key_in_any_order_of_runs(server: ViewServer) -> None:
    row = data(server, "/data/faces?run=0&sort=lpips&page=1")["rows"][7]
    found = data(server, f"/data/face?run=0&face={row['key']}")
    assert (found["number"], found["source"]) == (row["number"], row["source"])
    # The other run has the same face under the same key.
    other = data(server, f"/data/face?run=1&face={row['key']}")
    assert other["source"] == row["source"]
    for key in ("0" * 32 + "/0", row["image_id"] + "/1", row["image_id"] + "/x", "/", "x/0"):
        assert get(server, f"/data/face?run=0&face={key}")[0] == 400


def test_differences_are_from_the_input(server: ViewServer) -> None:
    face = data(server, "/data/face?face=70")
    assert face["differences"] == [1, 2, 3]
    maps = [
        pixels(get(server, f"/difference/0/70/{step}?scale={face['scale']}")[2]).mean()
        for step in (1, 2, 3)
    ]
    # The fabricated steps are 40, 20 and 13 grey levels off.
    assert maps[0] > maps[1] > maps[2]
    assert get(server, "/difference/0/70/0")[0] == 400


def test_a_run_says_what_became_of_it(tmp_path: Path) -> None:
    storage = fabricate(tmp_path, Made(faces=3))
    assert ViewedRun(str(tmp_path)).about()["state"] == ""
    # Before the record, as a run does: a second later, the claim would be another run's.
    claim = own_claim().model_copy(update={"state": "held"})
    finished = record(Made(faces=3))
    running = finished.model_copy(
        update={
            "state": "running",
            "timings": finished.timings.model_copy(update={"started": now(), "finished": None}),
        }
    )
    write_run(storage, running)
    storage.write(claim.name, claim.model_dump_json().encode())
    about = ViewedRun(str(tmp_path)).about()
    assert about["state"].startswith("This run is still running. 3 of 3 inputs were done")
    # The process is gone.
    dead = claim.model_copy(update={"born": "1"})
    storage.write(claim.name, dead.model_dump_json().encode())
    assert ViewedRun(str(tmp_path)).about()["state"].startswith("This run died: 3 of 3 inputs")
    storage.delete(claim.name)
    write_run(storage, finished.model_copy(update={"state": "interrupted"}))
    assert "was interrupted" in ViewedRun(str(tmp_path)).about()["state"]


def test_heat_maps_share_a_scale(server: ViewServer) -> None:
    scale = data(server, "/data/face?face=70")["scale"]
    maps = [pixels(get(server, f"/change/0/70/{step}?scale={scale}")[2]).mean() for step in (2, 3)]
    # The fabricated steps come nearer by 40, 20 and 7 grey levels.
    assert maps[0] > maps[1]


def test_rejects(server: ViewServer) -> None:
    answer = data(server, "/data/rejects?page=1")
    assert (answer["total"], len(answer["rows"])) == (REJECTS, REJECTS - 100)
    assert data(server, "/data/rejects?reason=no_face")["total"] < REJECTS
    assert data(server, "/data/rejects?name=000151")["total"] == 1


def test_an_edit_is_what_the_model_renders(server: ViewServer, shown: Shown) -> None:
    status, headers, body = get(server, "/edit/0/70?smile=1.5&pose=-2")
    assert (status, headers["Content-Type"]) == (200, "image/webp")
    model = load_model(shown.model, dtype="fp32", device="cpu")
    latent = torch.from_numpy(read_latents(shown.first)[1][70:71])
    for name, strength in (("smile", 1.5), ("pose", -2.0)):
        latent = apply(latent, find_direction(name, str(shown.model)), strength)
    with torch.inference_mode():
        image = model.synthesize(latent)[0].clamp(-1, 1)
    expected = ((image + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(pixels(body) - expected).max() <= 0.51
    assert (pixels(get(server, "/edit/0/70")[2]) != pixels(body)).any()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/../pipeline/viewer/server.py", 404),
        ("/view.html.j2", 404),
        ("/%2e%2e/etc/passwd", 404),
        ("/picture/0/99999/0", 400),
        ("/picture/7/0/0", 400),
        ("/picture/0/0/9", 400),
        ("/picture/0/0/../../0", 404),
        ("/change/0/0/0", 400),
        ("/photo/0/0", 400),
        ("/photo/0/99999", 400),
        ("/uploaded/0/" + "0" * 32 + "/photo", 400),
        ("/uploaded/0/x/photo", 404),
        ("/edit/0/0?smile:layers=x&smile=1", 400),
        ("/change/0/0/1?scale=0", 400),
        ("/change/0/0/1?scale=nan", 400),
        ("/edit/0/0?nothing=1", 400),
        ("/edit/0/0?smile=99", 400),
        ("/edit/0/0?smile=inf", 400),
        ("/edit/1/0?smile=1", 400),
        ("/data/faces?run=x", 400),
        ("/data/faces?page=" + "9" * 5000, 400),
        ("/data/faces?l2.low=abc", 400),
        ("/data/face?face=-1", 400),
        ("/data/face", 400),
        ("/?" + "a=1&" * 500, 400),
    ],
)
def test_requests_that_make_no_sense(server: ViewServer, path: str, status: int) -> None:
    found, _, body = get(server, path)
    assert found == status
    assert set(json.loads(body)) == {"error"}
    assert b"Traceback" not in body


def test_only_reading(server: ViewServer) -> None:
    assert get(server, "/", method="POST")[0] == 501
    status, _, body = get(server, "/", method="HEAD")
    assert (status, body) == (200, b"")


def test_another_model_is_not_used_for_edits(shown: Shown, tmp_path: Path) -> None:
    # Named after faces64, but of another fingerprint.
    fabricate(tmp_path, Made(faces=2, shape=(10, 32)))
    with pytest.raises(SpecError, match="is not the model"):
        ViewedRun(str(tmp_path), str(shown.model))
    with pytest.raises(SpecError, match="no model is called 'nobody'"):
        ViewedRun(str(tmp_path), "nobody")
    run = ViewedRun(str(tmp_path))
    assert "is not the model" in run.about()["edit_reason"]
    with pytest.raises(SpecError, match="is not the model"):
        run.edits.picture(run.editable(0).latent, {})


def test_a_folder_that_is_no_utf_8(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/<i>\xff")
    fabricate(folder, Made(faces=3, rejects=1))
    run = ViewedRun(folder)
    assert run.about()["name"] == "<i>\\xff"
    with served([run]) as server:
        assert b"<i>" not in get(server, "/")[2]
        assert get(server, "/picture/0/2/0")[0] == 200
    assert export([run], Path(folder).parent / "page") == 3


def test_a_run_on_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTYLE_RETRIES", "6:0.01")
    with faulty_s3(monkeypatch) as store:
        fabricate("s3://bucket/out", Made(faces=9, rejects=1, unit=4))
        store.rule = every(7, "503", r"^GET .*parquet")
        run = ViewedRun("s3://bucket/out")
        assert len(run.page(Selection(sort="lpips"), 0)["rows"]) == 9
        assert run.face(8)["changes"] == [2]
        assert run.picture(8, 0)
        assert run.reject_page("", "", 0, 9)["total"] == 1
        assert store.met["503"]


def test_listening_where_one_cannot(server: ViewServer) -> None:
    with pytest.raises(SpecError, match="cannot listen"):
        ViewServer([], "127.0.0.1", int(server.server_address[1]))
    with pytest.raises(SpecError, match="cannot listen"):
        ViewServer([], "203.0.113.1", 0)
