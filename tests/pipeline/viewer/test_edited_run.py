"""The page of edits: every face at each strength, in a browser without scripts."""

from __future__ import annotations

import html
import http.client
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from restyle.core.errors import SpecError
from restyle.pipeline.viewer.edited_run import EditedRun
from restyle.pipeline.viewer.server import ViewServer
from tests.browser import served


@pytest.fixture(scope="module")
def server(edited: Path) -> Iterator[ViewServer]:
    with served(EditedRun(str(edited))) as server:
        yield server


def get(server: ViewServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    connection.request(method, path, headers={"Cookie": f"{server.cookie}={server.token}"})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def page(server: ViewServer, query: str = "") -> str:
    status, body = get(server, f"/{query}")
    assert status == 200
    return body.decode()


def table(edited: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(edited / "edits", use_threads=False).to_pylist()
    return rows


def test_strips_begin_with_the_original_and_go_from_weak_to_strong(
    server: ViewServer, edited: Path
) -> None:
    text = page(server)
    assert text.count("<figcaption>original</figcaption>") == 3
    assert re.findall(r"<figcaption><b>([^<]*)</b>", text) == ["-2", "+0", "+2"] * 3
    rows = table(edited)
    shown = [float(each) for each in re.findall(r"<span>identity ([^<]*)</span>", text)]
    names = re.findall(r'<h3 title="([^"]*)"', text)
    wanted = [
        row["id_similarity"]
        for name in names
        for strength in (-2, 0, 2)
        for row in rows
        if row["source"] == html.unescape(name) and row["strength_smile"] == strength
    ]
    assert np.allclose(shown, np.array(wanted, float), atol=0.0051)


def test_pictures_are_those_of_the_rows(server: ViewServer, edited: Path) -> None:
    text = page(server)
    rows = table(edited)
    for address in re.findall(r'src="(edited/\d+/\d+)"', text):
        number, edit = map(int, address.split("/")[1:])
        status, body = get(server, f"/{address}")
        assert status == 200
        row = rows[number * 3 + edit]
        assert row["edit"] == edit
        assert body == row["image"]
        assert get(server, f"/photograph/{number}/{edit}") == (200, row["photo"])
    original = Image.open(io.BytesIO(get(server, "/original/0/0")[1]))
    assert original.size[0] >= 64


def test_faces_are_found_by_name_and_sorted(server: ViewServer, edited: Path) -> None:
    rows = table(edited)
    lowest: dict[str, float] = {}
    for row in rows:
        name = str(row["source"])
        lowest[name] = min(lowest.get(name, 2.0), float(str(row["id_similarity"])))
    found = re.findall(r'<h3 title="([^"]*)"', page(server, "?sort=identity"))
    assert [html.unescape(each) for each in found] == sorted(lowest, key=lowest.__getitem__)
    assert page(server, "?name=hat").count("<h3 ") == 1
    nothing = page(server, "?name=%3Cscript%3Ealert(1)%3C/script%3E&sort=%3Cb%3E")
    assert "No face has such a name" in nothing
    assert "<script" not in nothing


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/edited/9/0", 400),
        ("/edited/0/9", 400),
        ("/original/9/0", 400),
        ("/elsewhere", 404),
        ("/edited/0/../0", 404),
        ("/?page=x", 400),
    ],
)
def test_requests_that_make_no_sense(server: ViewServer, path: str, status: int) -> None:
    assert get(server, path)[0] == status


def test_nothing_is_taken(server: ViewServer) -> None:
    assert get(server, "/upload", "POST")[0] == 501


def test_an_inversion_is_no_edits(inverted: Path) -> None:
    with pytest.raises(SpecError, match="an inversion"):
        EditedRun(str(inverted / "out"))
