"""Editing with the hands in headless Chromium: the photograph, and one of one's own."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from restyle.pipeline.viewer.run import ViewedRun
from restyle.pipeline.viewer.server import RunsSite
from tests.browser import open_browser, served, until

DROP = """
const [name, text] = arguments;
const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name));
for (const kind of ["dragenter", "dragover", "drop"]) {
  document.body.dispatchEvent(
    new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}
"""


@pytest.fixture(scope="module")
def browser(
    inverted: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[WebDriver, str]]:
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    with served(RunsSite([ViewedRun(str(inverted / "out"))], accepts_uploads=True)) as server:
        browser.get(server.url)
        yield browser, server.url.partition("?")[0]
        browser.get("about:blank")
    browser.quit()


def reads(browser: WebDriver, name: str, text: str) -> None:
    until(browser, f"document.getElementById({name!r}).textContent === {text!r}")


def size_of(browser: WebDriver, name: str) -> list[int]:
    size: list[int] = browser.execute_script(
        "const image = document.getElementById(arguments[0]);"
        "return [image.naturalWidth, image.naturalHeight]",
        name,
    )
    return size


def test_the_photograph_stands_beside_the_face(browser: tuple[WebDriver, str]) -> None:
    page, root = browser
    page.get(f"{root}#face?run=0&face=0")
    reads(page, "edit-state", "no edit")
    reads(page, "photo-state", "the photograph")
    until(page, "document.getElementById('photo').naturalWidth > 256")
    plain = page.find_element(By.ID, "photo").get_attribute("src")
    page.find_element(By.ID, "edit-smile").send_keys(Keys.ARROW_RIGHT * 5)
    reads(page, "edit-state", "smile 0.5")
    # The face is put back live once that is wanted.
    assert page.find_element(By.ID, "photo").get_attribute("src") == plain
    page.find_element(By.ID, "in-photo").click()
    shown = "document.getElementById('photo').dataset.address"
    until(page, f"{shown}.includes('smile=0.5') && {shown}.includes('%3Ain=photo')")
    assert "edit%3Ain=photo" in page.current_url
    assert "--paste-back" in page.find_element(By.ID, "edit-command").text
    page.find_element(By.ID, "edit-smile").send_keys(Keys.ARROW_LEFT * 10)
    until(page, f"{shown}.includes('smile=-0.5')")
    page.find_element(By.ID, "in-photo").click()
    until(page, f"!{shown}.includes('smile')")
    assert page.get_log("browser") == []


def test_a_photograph_of_ones_own(browser: tuple[WebDriver, str], photos: Path) -> None:
    page, root = browser
    page.get(f"{root}#upload?run=0")
    until(page, "document.body.dataset.shown === location.hash")
    page.find_element(By.ID, "upload-file").send_keys(str(photos / "garden.jpg"))
    reads(page, "upload-state", "inverted in 3 steps")
    captions = [each.text for each in page.find_elements(By.CSS_SELECTOR, "#upload-steps figure")]
    assert captions == ["input", "step 1", "step 2", "result, step 3"]
    until(
        page,
        "[...document.querySelectorAll('#upload-steps img')].every((i) => i.naturalWidth >= 64)",
    )
    reads(page, "edit-state", "no edit")
    until(page, "document.getElementById('photo').naturalWidth > 256")
    page.find_element(By.ID, "edit-age").send_keys(Keys.ARROW_RIGHT * 10)
    reads(page, "edit-state", "age 1.0")
    first = size_of(page, "photo")
    # Another one, dropped while a face is looked at.
    page.get(f"{root}#face?run=0&face=1")
    until(page, "document.body.dataset.shown.startsWith('#face')")
    data = (photos / "hallway.png").read_bytes()
    page.execute_script(DROP, "hallway.png", base64.b64encode(data).decode())
    until(page, "location.hash.startsWith('#upload')")
    until(page, "document.querySelectorAll('#upload-steps figure').length === 4")
    reads(page, "upload-state", "inverted in 3 steps")
    until(page, "!document.getElementById('edits').hidden")
    until(
        page,
        "(({ naturalWidth: w, naturalHeight: h }) => "
        f"w > 0 && (w !== {first[0]} || h !== {first[1]}))(document.getElementById('photo'))",
    )
    assert page.get_log("browser") == []


def test_what_has_no_face_is_told(browser: tuple[WebDriver, str], photos: Path) -> None:
    page, root = browser
    page.get(f"{root}#upload?run=0")
    until(page, "document.body.dataset.shown === location.hash")
    page.find_element(By.ID, "upload-file").send_keys(str(photos / "unusable" / "landscape.jpg"))
    until(page, "document.getElementById('error').textContent.includes('finds no face')")
    assert not page.find_element(By.ID, "edits").is_displayed()
    page.get_log("browser")
