"""A face has one number: in the data, on the command line, in the report and on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from restyle.pipeline.viewer.run import ViewedRun
from tests.browser import open_browser, served, until
from tests.command import ROOT
from tests.warm_command import restyle

PHOTO = "two friends.jpg"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers") / "out"
    photo = ROOT / "samples" / "photos" / PHOTO
    settings = ("--faces", "all", "--steps", 1, "--metrics", "l2", "--reconstructions", "all")
    done = restyle("invert", photo, "--out", folder, *settings, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_command_line_takes_the_number_of_the_data(out: Path) -> None:
    asked = restyle("query", out, "select face from latents order by face", "--format", "json")
    numbers = [json.loads(line)["face"] for line in asked.stdout.splitlines()]
    assert numbers == [0, 1]
    for number in numbers:
        name = f"{PHOTO}#{number}"
        found = restyle("similar", out, name, "--count", 1, "--format", "json")
        nearest = json.loads(found.stdout)
        assert (nearest["face"], nearest["distance"]) == (number, 0)
    beyond = restyle("similar", out, f"{PHOTO}#2")
    assert (beyond.returncode, len(beyond.stderr.splitlines())) == (2, 1)


def test_the_report_names_a_face_as_the_command_line_does(out: Path) -> None:
    html = (out / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]*>", "", html)
    assert f"{PHOTO}#1" in text
    assert "face 2" not in text


def test_the_page_names_a_face_as_the_command_line_does(out: Path, tmp_path: Path) -> None:
    browser = open_browser(tmp_path / "profile")
    try:
        with served([ViewedRun(str(out))]) as server:
            browser.get(server.url)
            until(browser, "document.body.dataset.shown")
            text = browser.execute_script("return document.body.innerText")
    finally:
        browser.quit()
    assert f"{PHOTO}#1" in text
    assert "face 2" not in text
