"""``restyle similar`` as a person runs it."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.browser import open_browser
from tests.pipeline.fabricated import HOSTILE, Made, fabricate
from tests.pseudo_terminal import PseudoTerminal
from tests.warm_command import restyle


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("similar") / "out"
    fabricate(folder, Made(faces=12, names=HOSTILE, side=32))
    return folder


def test_rows_and_errors(tmp_path: Path) -> None:
    fabricate(tmp_path, Made(faces=12, reconstructions="none"))
    done = restyle("similar", tmp_path, "000003.jpg", "--count", 3, "--format", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 3
    assert (rows[0]["source"], rows[0]["distance"]) == ("/photos/000003.jpg", 0)
    assert rows[1]["distance"] <= rows[2]["distance"]
    table = restyle("similar", tmp_path, "000003.jpg", "--layers", "0-1")
    assert len(table.stdout.splitlines()) == 2 + 10
    for arguments in (
        ["nobody"],
        ["000003.jpg", "--layers", "a"],
        ["000003.jpg", "--layers", "60"],
    ):
        wrong = restyle("similar", tmp_path, *arguments)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert len(wrong.stderr.splitlines()) == 1


def test_a_page_with_the_pictures_of_the_nearest(out: Path, tmp_path: Path) -> None:
    page = tmp_path / "like.html"
    asked = ("similar", out, "000011.jpg", "--count", 5)
    assert restyle(*asked, "--out", page).stdout == f"{page}\n"
    rows = [json.loads(each) for each in restyle(*asked, "--format", "json").stdout.splitlines()]
    reconstructions = pq.read_table(out / "reconstructions", use_threads=False).to_pylist()
    html = page.read_text(encoding="utf-8")
    shown = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    assert len(shown) == 2 * len(rows)
    for number, row in enumerate(rows):
        kept = {each["step"]: each["image"] for each in reconstructions
                if each["image_id"] == row["image_id"]}  # fmt: skip
        for at, step in enumerate((0, max(kept))):
            mine = Image.open(io.BytesIO(base64.b64decode(shown[2 * number + at])))
            its = Image.open(io.BytesIO(kept[step])).convert("RGB")
            assert mine.convert("RGB").tobytes() == its.tobytes()
    assert "<script" not in html
    browser = open_browser(tmp_path / "profile")
    try:
        browser.set_window_size(390, 800)
        browser.get(page.as_uri())
        names = browser.execute_script(
            "return [...document.querySelectorAll('figcaption bdi')].map(each => each.textContent)"
        )
        fits = "return document.documentElement.scrollWidth <= innerWidth"
        assert browser.execute_script(fits)
        loaded = "return [...document.images].every(each => each.complete && each.naturalWidth)"
        assert browser.execute_script(loaded)
    finally:
        browser.quit()
    assert len(names) == 5
    assert names[0] == "/photos/000011.jpg"


def test_rows_go_to_a_file(out: Path, tmp_path: Path) -> None:
    to = tmp_path / "like.parquet"
    assert restyle("similar", out, "000011.jpg", "--count", 4, "--to", to).returncode == 0
    distances = pq.read_table(to, use_threads=False)["distance"].to_pylist()
    assert len(distances) == 4
    assert distances == sorted(distances)


def test_a_terminal_shows_the_faces_above_the_table(out: Path) -> None:
    words = ["similar", out, "000011.jpg", "--count", 6]
    with PseudoTerminal(*words) as terminal:
        assert terminal.ended() == 0
    lines = terminal.shown.splitlines()
    # Two rows of pictures of 20 x 20 pixels, two of them in a character; four fit in 100 columns.
    drawn = [line.count("\u2580") for line in lines if "\u2580" in line]
    assert drawn == [80] * 10 + [40] * 10
    table = next(number for number, line in enumerate(lines) if line.startswith("distance"))
    assert "000011.jpg" in "".join(lines[:table])
    assert len(lines) - table == 2 + 6
    with PseudoTerminal(*words, "--no-pictures") as terminal:
        assert terminal.ended() == 0
    assert "\u2580" not in terminal.shown
    assert "\u2580" not in restyle(*words).stdout


def test_a_run_without_pictures(tmp_path: Path) -> None:
    fabricate(tmp_path / "out", Made(faces=3, reconstructions="none"))
    words = ["similar", tmp_path / "out", "000001.jpg"]
    assert restyle(*words, "--out", tmp_path / "like.html").returncode == 0
    assert "no picture was kept" in (tmp_path / "like.html").read_text(encoding="utf-8")
    with PseudoTerminal(*words) as terminal:
        assert terminal.ended() == 0
    assert "distance" in terminal.shown
