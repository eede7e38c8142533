"""The page in headless Chromium: controls, keys, hostile names, both schemes, small screens.

Tests share a browser and a server; each begins at an address of its own.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select
from typer.testing import CliRunner

from restyle.core.errors import SpecError
from restyle.jobs.cli import app
from restyle.pipeline.viewer.export import export
from restyle.pipeline.viewer.run import ViewedRun
from tests.browser import check_keys_reach_everything, served, until
from tests.pipeline.fabricated import HOSTILE, Made, fabricate
from tests.pipeline.viewer.conftest import FACES, REJECTS, Shown


@pytest.fixture(scope="module")
def exported(shown: Shown, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "page"
    assert export(shown.runs(), folder, 90) == 90
    return folder


class Page:
    """The page as a person handles it."""

    def __init__(self, browser: WebDriver, start: str, root: str) -> None:
        self.browser = browser
        self.root = root
        browser.get_log("browser")
        browser.get(start)
        self.settled()

    def open(self, place: str) -> None:
        self.browser.execute_script(
            "delete document.body.dataset.shown;"
            "history.replaceState(null, '', `#${arguments[0]}`); location.reload()",
            place,
        )
        self.settled()

    def settled(self) -> None:
        """Wait until what stands in the address is shown."""
        until(self.browser, "document.body.dataset.shown === (location.hash || '#')")

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [each.text for each in self.all(selector)]

    def click(self, selector: str) -> None:
        self.browser.execute_script(
            "arguments[0].scrollIntoView({block: 'center'})", self.find(selector)
        )
        self.find(selector).click()
        self.settled()

    def fill(self, selector: str, text: str) -> None:
        field = self.find(selector)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.DELETE, text)

    def choose(self, selector: str, value: str) -> None:
        Select(self.find(selector)).select_by_value(value)
        self.settled()

    def press(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def until(self, condition: str) -> None:
        until(self.browser, condition)

    def reads(self, selector: str, text: str) -> None:
        """Wait until an element has this text."""
        self.until(f"document.querySelector({selector!r}).textContent.trim() === {text!r}")

    def values(self, metric: str) -> list[float]:
        """What the cards say of a metric."""
        numbers = [text.split(f"{metric} ")[1].split()[0] for text in self.texts(".numbers")]
        return [float(number) for number in numbers]

    def focused(self) -> str:
        """The id of what has the keyboard's focus."""
        return self.browser.switch_to.active_element.get_attribute("id") or ""

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture(scope="module")
def served_page(browser: WebDriver, shown: Shown) -> Iterator[Page]:
    with served(shown.runs()) as server:
        yield Page(browser, server.url, server.url.partition("?")[0])
        # So that the browser does not wait for a server that is gone.
        browser.get("about:blank")


@pytest.fixture
def page(served_page: Page) -> Iterator[Page]:
    served_page.open("faces")
    yield served_page
    assert served_page.errors() == []


@pytest.fixture
def static(browser: WebDriver, exported: Path) -> Iterator[Page]:
    address = (exported / "index.html").as_uri()
    opened = Page(browser, address, address)
    yield opened
    assert opened.errors() == []


def test_hostile_names_are_text(page: Page) -> None:
    assert page.find("#run-name").text == "first <b>run"
    names = page.texts(".card .name")
    assert HOSTILE[0] in names
    assert "two\\nlines\\tand a tab.jpg" in names
    assert "</script><img src=x onerror=alert(1)>.jpg" in names
    assert page.all("main script, main b, main img[src=x]") == []
    page.open("face?run=0&face=6")
    assert page.find("#face-name").text == HOSTILE[6]
    # Neither do addresses make markup.
    page.open("faces?name=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&sort=%3Cb%3E&run=%3Cb%3E&with=9")
    assert page.all("main img[src=x]") == []


def test_name_order_limits_and_clearing(page: Page) -> None:
    page.reads("#total", f"{FACES} faces")
    page.fill("#name", "/00012")
    page.reads("#total", "10 faces found")
    # The worst by a metric of which less is better, and by one of which more is.
    page.choose("#sort", "lpips")
    assert page.values("LPIPS") == sorted(page.values("LPIPS"), reverse=True)
    page.choose("#order", "best")
    assert page.values("LPIPS") == sorted(page.values("LPIPS"))
    page.choose("#sort", "id_similarity")
    assert Select(page.find("#order")).first_selected_option.text == "worst first"
    assert page.values("identity") == sorted(page.values("identity"))
    page.choose("#order", "best")
    assert page.values("identity") == sorted(page.values("identity"), reverse=True)
    page.choose("#sort", "source")
    page.choose("#order", "last")
    names = page.texts(".card .name")
    assert names == sorted(names, reverse=True)
    page.click("#clear")
    page.reads("#total", f"{FACES} faces")
    page.click("#ranges summary")
    page.fill("[name='lpips.low']", "0.1")
    page.reads("#range-count", "1")
    page.fill("[name='lpips.high']", "0.12")
    page.until("location.hash.includes('lpips.high=0.12')")
    page.settled()
    assert page.values("LPIPS")
    assert all(0.1 <= value <= 0.12 for value in page.values("LPIPS"))
    page.fill("#name", "no such name")
    page.until("!document.getElementById('no-faces').hidden")
    assert "Widen the limits" in page.find("#no-faces").text
    page.browser.back()
    page.settled()


def test_pages(page: Page) -> None:
    assert page.find("#pages").text == "3"
    assert not page.find("#previous").is_enabled()
    page.click("#next")
    assert page.texts(".card .name")[0] == "/photos/000060.jpg"
    page.fill("#page", "3")
    page.press(Keys.TAB)
    page.settled()
    assert len(page.all(".card")) == FACES - 120
    assert not page.find("#next").is_enabled()
    page.click("#previous")
    page.until("document.getElementById('page').value === '2'")
    page.browser.back()
    page.settled()
    page.until("document.getElementById('page').value === '3'")


def test_pictures_are_there(page: Page) -> None:
    page.until("document.querySelectorAll('.card img').length === 120")
    page.until("[...document.querySelectorAll('.card img')].slice(0, 8).every((i) => i.complete)")
    assert page.browser.execute_script(
        "return [...document.querySelectorAll('.card img')].slice(0, 8)"
        ".every((image) => image.naturalWidth === 16)"
    )


def test_steps_with_slider_and_keys(page: Page) -> None:
    page.click(".cards li:nth-child(12) a")
    assert page.find("#face-name").text == "/photos/000011.jpg"
    assert page.find("#step-name").text == "3 of 3"
    assert page.find("#scale").text
    page.until("document.querySelector('.change img').naturalWidth > 0")
    third = page.find(".step img").get_attribute("src")
    page.press(Keys.ARROW_LEFT)
    assert page.find("#step-name").text == "2 of 3"
    assert page.find(".step img").get_attribute("src") != third
    assert page.find("tr.current th").text == "2"
    page.find("#step").send_keys(Keys.HOME)
    assert page.find("#step-name").text == "0, the input"
    assert not page.find(".change img").is_displayed()
    page.find("#step").send_keys(Keys.ARROW_RIGHT)
    assert page.find("#step-name").text == "1 of 3"
    assert page.texts("#step-table thead th") == ["step", "L2", "LPIPS", "identity", "change"]
    assert len(page.all("#step-table tbody tr")) == 3


def test_neighbours_and_the_way_back(page: Page) -> None:
    page.open("face?run=0&face=59&sort=")
    page.until("!document.getElementById('face-next').disabled")
    page.click("#face-next")
    page.reads("#face-name", "/photos/000060.jpg")
    page.until("!document.getElementById('face-previous').disabled")
    page.press("p")
    page.reads("#face-name", "/photos/000059.jpg")
    page.until("!document.getElementById('face-next').disabled")
    page.press("n")
    page.reads("#face-name", "/photos/000060.jpg")
    page.press(Keys.ESCAPE)
    page.settled()
    # The page of the gallery on which that face is, and the face itself.
    assert page.find("#page").get_attribute("value") == "2"
    focused = page.browser.switch_to.active_element
    assert focused.find_element(By.CSS_SELECTOR, ".name").text == "/photos/000060.jpg"
    page.open("face?run=0&face=10")
    page.until("!document.getElementById('face-next').disabled")
    # Faster than what is shown: each counts from where the one before it leads to.
    page.press("nnpn")
    page.reads("#face-name", "/photos/000012.jpg")
    page.settled()
    page.open("face?run=0&face=3")
    page.click("#back")
    assert len(page.all(".card")) == 60


def test_edits_are_rendered(page: Page) -> None:
    page.open("face?run=0&face=20")
    page.reads("#edit-state", "no edit")
    page.until("document.getElementById('edited').naturalWidth === 64")
    plain = page.find("#edited").get_attribute("src")
    assert page.texts(".slider label") == ["pose", "smile"]
    page.find("#edit-smile").send_keys(Keys.ARROW_RIGHT * 5)
    page.reads("#edit-state", "smile 0.5")
    edited = page.find("#edited").get_attribute("src")
    assert edited != plain
    page.fill("input[type=number][data-name=pose]", "-2")
    page.until("document.getElementById('edit-pose').value === '-2'")
    page.reads("#edit-state", "pose -2.0, smile 0.5")
    page.until("location.hash.includes('edit%3Apose=-2')")
    page.click("#edit-reset")
    page.reads("#edit-state", "no edit")


def test_what_cannot_be_edited_has_no_sliders(page: Page) -> None:
    page.open("face?run=1&face=20")
    assert not page.find("#edits").is_displayed()
    assert "is not the model that this run was made with" in page.find("#edit-reason").text


def test_two_runs_beside_each_other(page: Page) -> None:
    page.choose("#with", "1")
    page.until("document.querySelectorAll('.card img').length === 180")
    page.choose("#sort", "difference:lpips")
    here, there = (
        page.values("LPIPS"),
        [float(text.split("LPIPS ")[1].split()[2]) for text in page.texts(".numbers")],
    )
    differences = [b - a for a, b in zip(here, there, strict=True)]
    # As far as rounded values tell; what became worse comes first, and less is better.
    assert all(a >= b - 2.1e-3 for a, b in itertools.pairwise(differences))
    signs = [text.split("LPIPS ")[1].split()[3:4] for text in page.texts(".numbers")]
    for sign, a, b in zip(signs, here, there, strict=True):
        if abs(a - b) > 1e-3:
            assert sign == (["▼"] if b > a else ["▲"])
    assert page.texts(".cards li:first-child .caption") == ["input", "first <b>run", "second"]
    page.choose("#order", "best")
    gains = [text.split("LPIPS ")[1].split() for text in page.texts(".numbers")]
    assert float(gains[0][2]) < float(gains[0][0])
    page.click(".cards li a")
    assert page.texts(".column h3") == ["first <b>run", "second"]
    assert page.find("#step-name").text == "3 of 3"
    assert page.texts(".step figcaption") == ["step 3", "step 2, the last one"]
    # The columns of a metric stand beside each other, and the second says how it compares.
    heads = page.texts("#step-table thead th")
    assert heads[1:3] == ["L2\nfirst <b>run", "L2\nsecond"]
    cells = page.all("#step-table tbody tr:first-child td")
    assert cells[0].find_elements(By.CSS_SELECTOR, ".sign") == []
    a, b = (float(cell.text.split()[0]) for cell in cells[:2])
    kind = "better" if b < a else "worse"
    assert cells[1].find_element(By.CSS_SELECTOR, ".sign").get_attribute("aria-label") == kind
    page.open("face?run=0&with=1&face=140")
    assert "not in that run" in page.find(".column .empty").text
    page.choose("#run", "1")
    assert page.find("#run-name").text == "second"
    page.reads("#total", f"{FACES - 20} faces")


def test_rejects(page: Page) -> None:
    page.click("#tab-rejects")
    page.reads("#reject-total", f"{REJECTS} rejects")
    assert len(page.all("#reject-rows tr")) == 100
    page.click("#reject-next")
    assert len(page.all("#reject-rows tr")) == REJECTS - 100
    page.click("#reject-previous")
    page.choose("#reason", "no_face")
    assert set(page.texts("#reject-rows .reason")) == {"no face found"}
    page.fill("#reject-name", "000160")
    page.reads("#reject-total", "1 reject")
    page.fill("#reject-name", "no such name")
    page.until("!document.getElementById('no-rejects').hidden")
    page.open("rejects?run=1")
    assert page.find("#no-rejects").text == "None: every input gave a latent."
    page.click("#tab-faces")
    assert page.find("#faces-view").is_displayed()


def test_keys_among_the_cards(page: Page) -> None:
    focused = "return [...document.querySelectorAll('a.card')].indexOf(document.activeElement)"
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ARROW_RIGHT)
    assert page.browser.execute_script(focused) == 1
    page.press(Keys.ARROW_DOWN)
    below = page.browser.execute_script(focused)
    assert below > 2
    page.press(Keys.ARROW_UP)
    page.press(Keys.ARROW_LEFT)
    assert page.browser.execute_script(focused) == 0
    page.press("]")
    page.until("document.getElementById('page').value === '2'")
    page.press("[")
    page.until("document.getElementById('page').value === '1'")
    page.press("/")
    assert page.browser.execute_script("return document.activeElement.id") == "name"
    # What is typed into a field is text, not a command.
    page.press("?]n")
    page.reads("#total", "")
    assert not page.find("#help").is_displayed()


def test_the_focus_follows_what_enter_opens(page: Page) -> None:
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ENTER)
    page.until("location.hash.startsWith('#face?')")
    page.settled()
    assert page.focused() == "face-name"
    page.press(Keys.ESCAPE)
    page.settled()
    assert page.browser.switch_to.active_element.get_attribute("class") == "card"
    # A button that can do no more gives the focus to the other one.
    page.find("#next").send_keys(Keys.ENTER)
    page.until("document.getElementById('page').value === '2'")
    page.settled()
    assert page.focused() == "next"
    page.find("#next").send_keys(Keys.ENTER)
    page.until("document.getElementById('next').disabled")
    assert page.focused() == "previous"
    page.find("#name").send_keys("/00012", Keys.ENTER)
    page.reads("#total", "10 faces found")
    assert page.focused() == "name"


def test_links_are_by_key(page: Page, shown: Shown) -> None:
    page.open("faces?run=0&sort=lpips")
    link = page.find(".cards li:nth-child(5) a")
    name = link.find_element(By.CSS_SELECTOR, ".name").text
    address = link.get_attribute("href").partition("#")[2]
    key = link.get_attribute("data-key")
    assert re.fullmatch(r"[0-9a-f]{32}/0", key)
    assert key.replace("/", "%2F") in address
    page.open(address)
    assert page.find("#face-name").text == name
    # An ordinal is replaced by the key.
    page.open("face?run=0&face=20")
    page.until("/face=[0-9a-f]{32}%2F0/.test(location.hash)")


def test_strengths_stand_in_the_address(page: Page) -> None:
    page.open("face?run=0&face=20&edit%3Asmile=1.5&edit%3Asmile%3Alayers=2-4")
    page.reads("#edit-state", "smile 1.5")
    assert page.find("[data-role=layers][data-name=smile]").get_attribute("value") == "2-4"
    assert page.find("#edit-smile").get_attribute("value") == "1.5"
    address = page.browser.current_url
    assert "edit%3Asmile=1.5" in address
    for name, kind in (("save-picture", "png"), ("save-latent", "npy")):
        link = page.find(f"#{name}").get_attribute("href")
        assert "smile=1.5&smile%3Alayers=2-4" in link
        assert link.endswith(f"%3Aas={kind}")
    page.click("#back")
    assert "edit" not in page.browser.current_url
    page.browser.get(address)
    page.settled()
    page.reads("#edit-state", "smile 1.5")


def test_the_command_does_the_same(page: Page, shown: Shown, tmp_path: Path) -> None:
    page.open("face?run=0&face=5&edit%3Asmile=1.5&edit%3Apose=-2&edit%3Apose%3Alayers=0-3")
    page.reads("#edit-state", "pose -2.0, smile 1.5")
    words = shlex.split(page.find("#edit-command").text)
    assert words[:3] == ["restyle", "edit", str(shown.first)]
    # The page was asked to render with this model, which the run's record does not name.
    assert words[words.index("--model") + 1] == str(shown.model)
    assert words[-2:] == ["--out", "EDITS"]
    assert words[words.index("--only") + 1] == HOSTILE[5]
    words[-1] = str(tmp_path / "edits")
    result = CliRunner().invoke(app, [*words[1:], "--no-score", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    table = pq.read_table(tmp_path / "edits" / "edits", use_threads=False)
    assert table.num_rows == 1
    link = page.find("#save-latent").get_attribute("href")
    cookie = page.browser.get_cookies()[0]
    headers = {"Cookie": f"{cookie['name']}={cookie['value']}"}
    request = urllib.request.Request(link, headers=headers)  # noqa: S310 (our own server)
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        latent = np.load(io.BytesIO(answer.read()))
    assert np.allclose(table["latent"][0].as_py(), latent.reshape(-1), atol=1e-6)


def test_sliders_have_poles_and_a_zero_mark(page: Page) -> None:
    page.open("face?run=0&face=20")
    page.reads("#edit-state", "no edit")
    assert page.texts(".slider .pole") == ["left", "right", "serious", "smiling"]
    mark = page.find(".zero-marked").value_of_css_property("background-image")
    assert "gradient" in mark
    slider, track = page.find("#edit-pose").rect, page.find(".zero-marked").rect
    # The middle of the track is where the slider's zero is.
    assert slider["x"] + slider["width"] / 2 == pytest.approx(
        track["x"] + track["width"] / 2, abs=1
    )
    page.fill("[data-role=layers][data-name=pose]", "0-30")
    page.find("#edit-pose").send_keys(Keys.ARROW_RIGHT)
    page.until("document.getElementById('edit-state').textContent.includes('0-9')")
    assert any("400" in error for error in page.errors())
    page.click("#edit-reset")
    page.reads("#edit-state", "no edit")


def test_the_right_third_is_used(page: Page) -> None:
    try:
        page.browser.set_window_size(1400, 900)
        page.open("face?run=0&face=20")
        table = page.find("#step-table").rect
        width = page.browser.execute_script("return document.documentElement.clientWidth")
        assert table["x"] > width * 0.6
        assert table["x"] + table["width"] > width * 0.9
        assert table["y"] < page.find("#stepper").rect["y"]
    finally:
        page.browser.set_window_size(1300, 900)


def test_captions_of_cards(page: Page) -> None:
    assert page.texts(".cards li:first-child .caption") == ["input", "result"]


def test_keys_alone_reach_everything(page: Page) -> None:
    for place in ("faces?run=0", "face?run=0&face=20", "rejects?run=0"):
        page.open(place)
        page.until("document.querySelectorAll('main img').length || location.hash.includes('rej')")
        if place.startswith("face?"):
            page.reads("#edit-state", "no edit")
            page.until("!document.getElementById('face-next').disabled")
        assert check_keys_reach_everything(page.browser) > 5


def test_help(page: Page) -> None:
    page.press("?")
    assert page.find("#help").is_displayed()
    page.find("#help button").click()
    assert not page.find("#help").is_displayed()
    page.click("#help-button")
    assert page.find("#help").is_displayed()
    page.press(Keys.ESCAPE)


def test_nothing_comes_from_elsewhere(page: Page, exported: Path) -> None:
    page.browser.get_log("performance")
    page.open("face?run=0&face=20&with=1")
    page.reads("#edit-state", "no edit")
    messages = [
        json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")
    ]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert len(asked) > 5
    assert {url.split(":")[0] for url in asked} <= {"http", "blob", "data"}
    assert all(url.startswith(page.root) for url in asked if url.startswith("http"))


@pytest.mark.parametrize("place", ["faces", "face?run=0&face=2", "rejects", "faces?with=1"])
def test_narrow_screens_and_both_schemes(page: Page, place: str) -> None:
    send = page.browser.execute_cdp_cmd
    grounds = set()
    try:
        send(
            "Emulation.setDeviceMetricsOverride",
            {"width": 340, "height": 700, "deviceScaleFactor": 1, "mobile": True},
        )
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            send("Emulation.setEmulatedMedia", {"features": [feature]})
            page.open(place)
            grounds.add(page.find("body").value_of_css_property("background-color"))
        assert len(grounds) == 2
        # Nothing sticks out to the side.
        assert page.browser.execute_script("return document.documentElement.scrollWidth") == 340
    finally:
        send("Emulation.clearDeviceMetricsOverride", {})
        send("Emulation.setEmulatedMedia", {"features": []})


def test_an_error_is_told_and_passes(page: Page) -> None:
    for face in ("99999", "0123456789abcdef0123456789abcdef/0", "x"):
        page.open(f"face?run=0&face={face}")
        assert page.find("#error").is_displayed()
        # It says so alone.
        shown = "#face-body, #edits, #run-head, #face-previous, #face-next"
        assert not any(each.is_displayed() for each in page.all(shown))
        assert any("400" in error for error in page.errors())
    page.open("face?run=0&face=99999")
    assert page.find("#error").text == "there is no face 99999"
    page.errors()
    page.click("#back")
    assert not page.find("#error").is_displayed()
    assert page.find("#run-head").is_displayed()


def test_the_export_does_the_same_without_a_server(static: Page) -> None:
    static.reads("#total", "90 faces found")
    static.choose("#sort", "lpips")
    assert static.values("LPIPS") == sorted(static.values("LPIPS"), reverse=True)
    static.choose("#order", "best")
    assert static.values("LPIPS") == sorted(static.values("LPIPS"))
    static.until("[...document.querySelectorAll('.card img')].slice(0, 4).every((i) => i.complete)")
    static.choose("#with", "1")
    static.click(".cards li a")
    assert static.texts(".column h3") == ["first <b>run", "second"]
    static.until("document.querySelector('.change img').naturalWidth > 0")
    static.press(Keys.ARROW_LEFT)
    assert static.find("#step-name").text == "2 of 3"
    assert not static.find("#edits").is_displayed()
    static.click("#tab-rejects")
    static.choose("#reason", "truncated")
    assert set(static.texts("#reject-rows .reason")) == {"damaged or cut off"}
    static.open("faces?name=%3Cscript%3E")
    assert static.texts(".card .name") == [HOSTILE[0]]


def test_runs_without_faces_or_pictures(browser: WebDriver, tmp_path: Path, exported: Path) -> None:
    fabricate(tmp_path / "none", Made(faces=0, rejects=2))
    fabricate(tmp_path / "bare", Made(faces=2, reconstructions="none", save_steps="none"))
    fabricate(tmp_path / "new", Made(faces=0, rejects=0))
    runs = [ViewedRun(str(tmp_path / name)) for name in ("none", "bare", "new")]
    with served(runs) as server:
        page = Page(browser, server.url, server.url.partition("?")[0])
        assert "every input so far was rejected" in page.find("#no-faces").text
        page.open("faces?run=2")
        assert page.find("#no-faces").text == "No face has been inverted yet."
        page.open("rejects?run=2")
        assert "no input has been looked at" in page.find("#no-rejects").text
        page.open("faces?run=1")
        assert page.texts(".no-picture") == ["no pictures kept"] * 2
        page.click(".cards li a")
        assert "No pictures were kept" in page.find(".column .empty").text
        assert not page.find("#stepper").is_displayed()
        assert not page.find("#numbers").is_displayed()
        browser.get("about:blank")


def test_an_export_replaces_only_an_export(shown: Shown, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SpecError, match="holds something else"):
        export(shown.runs()[1:], tmp_path)
    assert export(shown.runs()[1:], exported, 5) == 5
    assert len(list((exported / "pictures").glob("*-0.webp"))) == 5
