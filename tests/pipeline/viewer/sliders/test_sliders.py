"""Editing with the hands, as HTTP clients see it: edits, photographs, downloads, uploads."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restyle.core.editing.directions import About, Direction
from restyle.core.editing.lookup import find_direction
from restyle.core.editing.paste_back import paste_back
from restyle.core.editing.strengths import apply
from restyle.core.errors import CheckpointError, SpecError
from restyle.core.imaging.decoding import decode_image
from restyle.core.inference.inversion import invert
from restyle.core.inference.model import load_model
from restyle.pipeline.decoding.crops import CropSettings, read_crops
from restyle.pipeline.results.face_rows import Selection, UnitFaces, select_keys
from restyle.pipeline.results.latents import read_latents
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.viewer.run import ViewedRun
from restyle.pipeline.viewer.server import RunsSite, ViewServer
from restyle.pipeline.viewer.sliders import run_face
from restyle.pipeline.viewer.sliders.edits import Edits
from restyle.pipeline.viewer.sliders.uploads import MAX_BYTES, MAX_KEPT
from tests.browser import served


@pytest.fixture(scope="module")
def server(inverted: Path) -> Iterator[ViewServer]:
    with served(RunsSite([ViewedRun(str(inverted / "out"))], accepts_uploads=True)) as server:
        yield server


def ask(
    server: ViewServer,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=120)
    sent = {"Cookie": f"{server.cookie}={server.token}"} | (headers or {})
    connection.request("GET" if body is None else "POST", path, body, sent)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def given(server: ViewServer, path: str, body: bytes | None = None) -> bytes:
    status, _, data = ask(server, path, body)
    assert status == 200, data
    return data


def image(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)


def numbers(server: ViewServer) -> dict[str, int]:
    rows = json.loads(given(server, "/data/faces"))["rows"]
    return {row["source"].rpartition("/")[2]: row["number"] for row in rows}


def stored(inverted: Path, name: str) -> np.ndarray:
    rows, latents = read_latents(inverted / "out")
    (row,) = [at for at, source in enumerate(rows["source"]) if source.endswith(name)]
    return np.array(latents[row])


def test_a_saved_latent_is_that_of_the_strengths_and_layers(
    server: ViewServer, inverted: Path
) -> None:
    number = numbers(server)["smile.jpg"]
    status, headers, data = ask(
        server, f"/edit/0/{number}?smile=1.5&smile:layers=2-4&age=-1&:as=npy"
    )
    assert status == 200
    assert headers["Content-Disposition"] == 'attachment; filename="smile-edited.npy"'
    start = torch.from_numpy(stored(inverted, "smile.jpg")[None])
    one = apply(start, find_direction("smile", "faces64"), 1.5, (2, 3, 4))
    wanted = apply(one, find_direction("age", "faces64"), -1.0)
    assert np.array_equal(np.load(io.BytesIO(data)), wanted[0].numpy())
    # Only the layers that were asked for move.
    alone = np.load(
        io.BytesIO(given(server, f"/edit/0/{number}?smile=1.5&smile:layers=2-4&:as=npy"))
    )
    moved = np.abs(alone - start[0].numpy()).max(axis=1) > 0
    assert np.flatnonzero(moved).tolist() == [2, 3, 4]


def test_a_saved_picture_is_what_the_page_shows(server: ViewServer) -> None:
    number = numbers(server)["terrace.jpg"]
    status, headers, data = ask(server, f"/edit/0/{number}?pose=2&:as=png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert np.array_equal(image(data), image(given(server, f"/edit/0/{number}?pose=2")))


@pytest.mark.parametrize("side", [1024, 200])
def test_the_photograph_and_the_face_in_it(
    inverted: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_face, "PHOTO_SIDE", side)
    with served([ViewedRun(str(inverted / "out"))]) as server:
        check_photograph(server, inverted, side)


def check_photograph(server: ViewServer, inverted: Path, side: int) -> None:
    name = "blue hat.jpg"
    number = numbers(server)[name]
    photo = image(given(server, f"/photo/0/{number}"))
    whole = decode_image((inverted / "photos" / name).read_bytes())
    wanted = np.asarray(whole.resize((photo.shape[1], photo.shape[0]), Image.Resampling.LANCZOS))
    # JPEG's rounding.
    assert np.abs(photo - wanted).mean() < 3
    assert max(photo.shape) == min(side, max(whole.size))
    pasted = image(given(server, f"/edit/0/{number}?smile=3&:in=photo&:as=png"))
    scale = photo.shape[1] / whole.width
    keys = select_keys(str(inverted / "out"), Selection(name))
    unit = next(record.unit for record in read_snapshot(str(inverted / "out")).output.records())
    faces = UnitFaces(str(inverted / "out")).read(unit, {key[:2] for key in keys})
    quad = (faces.quads[0] + 0.5) * scale - 0.5
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int) + 1
    outside = np.ones(photo.shape[:2], bool)
    outside[max(low[1], 0) : high[1], max(low[0], 0) : high[0]] = False
    assert np.abs(pasted - photo)[outside].max() < 16
    # Inside it is the edited face, put back as by restyle edit.
    face = Image.open(io.BytesIO(given(server, f"/edit/0/{number}?smile=3&:as=png")))
    own = paste_back(Image.fromarray(photo.astype(np.uint8)), face, quad)
    assert np.abs(pasted - np.asarray(own, np.float64))[~outside].mean() < 2


def test_a_photograph_that_was_changed_or_is_gone_is_told(inverted: Path, tmp_path: Path) -> None:
    from tests.inverted import make_inverted

    folder = make_inverted(tmp_path, inverted / "photos")
    (folder / "photos" / "smile.jpg").write_bytes(b"another file")
    (folder / "photos" / "terrace.jpg").unlink()
    with served([ViewedRun(str(folder / "out"))]) as server:
        places = numbers(server)
        for name, word in (("smile.jpg", "changed"), ("terrace.jpg", "No such file")):
            for path in (f"/photo/0/{places[name]}", f"/edit/0/{places[name]}?:in=photo"):
                status, _, body = ask(server, path)
                assert status == 400
                assert word in json.loads(body)["error"]
        # The face itself can still be edited.
        given(server, f"/edit/0/{places['smile.jpg']}?smile=1")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("smile=1&smile:layers=9-2", "write ranges"),
        ("smile=1&smile:layers=0-30", "the latents have 10 styles"),
        (":as=exe", "webp, png or npy"),
        (":in=space", "in the photo or alone"),
        ("smile=6", "must lie within"),
        ("frown=1", "no direction 'frown'"),
    ],
)
def test_edits_that_make_no_sense(server: ViewServer, query: str, words: str) -> None:
    status, _, body = ask(server, f"/edit/0/0?{query}")
    assert status == 400
    assert words in json.loads(body)["error"]


def test_directions_of_folders(inverted: Path, tmp_path: Path) -> None:
    out = str(inverted / "out")
    vector = np.random.default_rng(0).standard_normal(512)
    for name in ("smile", "frown"):
        Direction.of(vector, About(name=name, kind="imported", scale=1)).save(tmp_path / "mine")
    edits = Edits(read_snapshot(out), None, [str(tmp_path / "mine")])
    assert {"age", "pose", "smile", "frown", "smile mine"} == set(edits.directions)
    arguments = {each["name"]: each["argument"] for each in edits.about()}
    assert arguments["smile"] == "smile"
    assert arguments["smile mine"] == str(tmp_path / "mine" / "smile.safetensors")
    assert {each["furthest"] for each in edits.about() if each["argument"] != each["name"]} == {5}
    for reliable, furthest in (((-3, 2), 3), ((-1, 1.5), 1.5), ((-9, 2), 5)):
        ranged = About(name="ranged", kind="imported", scale=1, reliable=reliable)
        path = Direction.of(vector, ranged).save(tmp_path)
        about = Edits(read_snapshot(out), None, [str(path)]).about()
        assert [each["furthest"] for each in about if each["name"] == "ranged"] == [furthest]
    (tmp_path / "none").mkdir()
    with pytest.raises(SpecError, match="has no direction"):
        Edits(read_snapshot(out), None, [str(tmp_path / "none")])
    with pytest.raises(CheckpointError, match="there is no direction"):
        Edits(read_snapshot(out), None, [str(tmp_path / "nobody")])
    (tmp_path / "bad.safetensors").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="is no direction"):
        Edits(read_snapshot(out), None, [str(tmp_path / "bad.safetensors")])


def upload(server: ViewServer, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(given(server, "/upload?run=0", data))
    return found


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_dropped_photograph_is_inverted_like_those_of_the_run(
    server: ViewServer, inverted: Path, photos: Path
) -> None:
    before = digest(inverted)
    data = (photos / "garden.jpg").read_bytes()
    found = upload(server, data)
    assert found["steps"] == 3
    base = f"/uploaded/0/{found['id']}"
    status, _, body = ask(server, f"{base}/edit")
    assert (status, b"not inverted yet" in body) == (400, True)
    model = load_model("faces64", dtype="fp32", device="cpu")
    crop = read_crops(data, CropSettings.of(model.config, True, "largest"))[0]
    assert np.abs(image(given(server, f"{base}/step/0")) - crop.pixels).mean() < 3
    own = invert(model, np.array(crop.pixels[None]), steps=3, reconstructions="all")
    assert own.reconstructions is not None
    for step in (1, 2, 3):
        shown = image(given(server, f"{base}/step/{step}"))
        wanted = (own.reconstructions[0, step - 1].permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(shown - wanted.clip(0, 255)).max() < 1.5
    latent = np.load(io.BytesIO(given(server, f"{base}/edit?:as=npy")))
    assert np.allclose(latent, own.latents[0, -1].numpy(), atol=1e-4)
    edited = image(given(server, f"{base}/edit?smile=3&:as=png"))
    assert np.abs(edited - image(given(server, f"{base}/edit?:as=png"))).mean() > 1
    photo = image(given(server, f"{base}/photo"))
    whole = decode_image(data)
    assert photo.shape[1] / photo.shape[0] == pytest.approx(whole.width / whole.height, rel=0.01)
    given(server, f"{base}/edit?smile=3&:in=photo")
    # Nothing of it is written.
    assert digest(inverted) == before


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"plain text", "no image format"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "cannot"),
    ],
)
def test_what_is_no_photograph_is_refused(server: ViewServer, data: bytes, words: str) -> None:
    status, _, body = ask(server, "/upload", data)
    assert status == 400
    assert words in json.loads(body)["error"]


def test_photographs_without_a_face_and_bombs_are_refused(server: ViewServer, photos: Path) -> None:
    for name, words in (("landscape.jpg", "finds no face"), ("bomb.png", "limit of")):
        status, _, body = ask(server, "/upload", (photos / "unusable" / name).read_bytes())
        assert status == 400
        assert words in json.loads(body)["error"]
    # The next one is taken.
    upload(server, (photos / "smile.jpg").read_bytes())


def test_uploads_are_decoded_in_a_confined_process(
    server: ViewServer, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import restyle.core.imaging.decoding as decoding

    def fails(*_: object, **__: object) -> None:
        raise AssertionError("decoded in the process of the server")

    monkeypatch.setattr(decoding, "decode", fails)
    monkeypatch.setattr(Image, "open", fails)
    upload(server, (photos / "smile.jpg").read_bytes())


def test_only_the_last_few_photographs_are_kept(server: ViewServer, photos: Path) -> None:
    data = (photos / "smile.jpg").read_bytes()
    names = [upload(server, data)["id"] for _ in range(MAX_KEPT + 1)]
    status, _, body = ask(server, f"/uploaded/0/{names[0]}/step/0")
    assert (status, b"drop it again" in body) == (400, True)
    given(server, f"/uploaded/0/{names[1]}/step/0")


def test_who_may_upload(server: ViewServer, inverted: Path) -> None:
    status, _, _ = ask(server, "/upload", b"x", {"Cookie": ""})
    assert status == 403
    host, port = server.server_address[:2]
    for origin in ("http://127.0.0.1:1", "https://elsewhere.example", "null"):
        status, _, body = ask(server, "/upload", b"x", {"Origin": origin})
        assert (status, b"only the page itself" in body) == (403, True)
    status, _, _ = ask(server, "/upload", b"x", {"Origin": f"http://{host}:{port}"})
    assert status == 400
    assert ask(server, "/elsewhere", b"x")[0] == 501
    with served([ViewedRun(str(inverted / "out"))]) as closed:
        assert ask(closed, "/upload", b"x")[0] == 501


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Content-Length: {MAX_BYTES + 1}", b"413"),
        ("Content-Length: " + "9" * 500, b"413"),
        ("Content-Length: -1", b"411"),
        ("Transfer-Encoding: chunked", b"411"),
    ],
)
def test_the_size_is_refused_before_it_is_read(
    server: ViewServer, header: str, status: bytes
) -> None:
    with socket.create_connection(server.server_address[:2], timeout=60) as connection:
        cookie = f"{server.cookie}={server.token}"
        head = f"POST /upload HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n{header}\r\n\r\n"
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 " + status)
