"""axe-core finds no violation on any page, in both schemes, wide and narrow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from restyle.pipeline.ledger.output import Output
from restyle.pipeline.report.report import write_report
from restyle.pipeline.results.snapshot import read_snapshot
from restyle.pipeline.viewer.edited_run import EditedRun
from restyle.pipeline.viewer.page import locked_page
from restyle.pipeline.viewer.run import ViewedRun
from restyle.pipeline.viewer.server import RunsSite
from restyle.pipeline.viewer.similar_page import Shown as ShownFace
from restyle.pipeline.viewer.similar_page import similar_page
from tests.browser import check_keys_reach_everything, served, until
from tests.pipeline.fabricated import HOSTILE, Made, fabricate, picture
from tests.pipeline.viewer.conftest import Shown
from tests.pipeline.viewer.test_live import Job

SIZES = (1300, 390)
SCHEMES = ("light", "dark")
RUN = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"]}).then((found) => done(
  found.violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join(" | ")}`)
), (error) => done([String(error)]));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which a package for another driver brings."""
    found = find_spec("axe_playwright_python")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def check(browser: WebDriver, axe: str) -> None:
    """Check the page as it stands, in all sizes and schemes."""
    try:
        for width in SIZES:
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
            )
            for scheme in SCHEMES:
                feature = {"name": "prefers-color-scheme", "value": scheme}
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
                # The policies of the pages forbid foreign scripts, but not those of a driver.
                browser.execute_script(axe)
                assert browser.execute_async_script(RUN) == [], (width, scheme)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_violation_is_found(browser: WebDriver, axe: str, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<!doctype html><html lang="en"><title>x</title><main><h1>x</h1><img src="x">')
    browser.get(page.as_uri())
    with pytest.raises(AssertionError, match="image-alt"):
        check(browser, axe)


def test_reports(browser: WebDriver, axe: str, tmp_path: Path, edited: Path) -> None:
    made = Made(faces=30, rejects=12, steps=3, side=16, names=HOSTILE)
    drawn = made.settings.model_copy(
        update={"bootstrap": "photo:restyle-psp", "bootstrap_fingerprint": "cd" * 32}
    )
    fabricate(tmp_path / "out", made)
    for settings in (made.settings, drawn):
        write_report(Output.at(str(tmp_path / "out")), settings)
        browser.get((tmp_path / "out" / "report.html").as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
        check(browser, axe)
        assert check_keys_reach_everything(browser) > 5
    fabricate(tmp_path / "new", Made(faces=0))
    write_report(Output.at(str(tmp_path / "new")))
    for page in (tmp_path / "new" / "report.html", edited / "report.html"):
        browser.get(page.as_uri())
        check(browser, axe)


def test_reports_print_light_and_without_controls(browser: WebDriver, tmp_path: Path) -> None:
    fabricate(tmp_path / "out", Made(faces=9, rejects=2, steps=3, side=16))
    write_report(Output.at(str(tmp_path / "out")))
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    try:
        browser.get((tmp_path / "out" / "report.html").as_uri())
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": "print", "features": [dark]}
        )
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
        seen = (
            "return [...document.querySelectorAll(arguments[0])].some((e) => e.checkVisibility())"
        )
        for controls in (".sections", "fieldset", ".switch", "details", "pre"):
            assert not browser.execute_script(seen, controls)
        for contents in (".strip", ".chart", ".reject-list li"):
            assert browser.execute_script(seen, contents)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_pages_of_files(browser: WebDriver, axe: str, tmp_path: Path) -> None:
    fabricate(tmp_path / "out", Made(faces=3))
    snapshot = read_snapshot(str(tmp_path / "out"))
    faces = [ShownFace(name, 0.1, [picture(0, 0, 16), picture(0, 1, 16)]) for name in HOSTILE[:4]]
    pages = {
        "similar": similar_page(snapshot, "a face", faces),
        "none": similar_page(snapshot, "a face", []),
        "locked": locked_page(),
    }
    for name, page in pages.items():
        (tmp_path / f"{name}.html").write_bytes(page)
        browser.get((tmp_path / f"{name}.html").as_uri())
        check(browser, axe)


@pytest.mark.parametrize(
    "place",
    [
        "faces?run=0&sort=lpips",
        "faces?run=0&with=1",
        "faces?run=0&name=nobody",
        "face?run=0&face=20",
        "face?run=0&face=20&with=1",
        "face?run=0&face=99999",
        "rejects?run=0",
        "rejects?run=1",
        "upload?run=0",
    ],
)
def test_views(browser: WebDriver, axe: str, shown: Shown, place: str) -> None:
    with served(RunsSite(shown.runs(), accepts_uploads=True)) as server:
        browser.get(server.url)
        browser.execute_script(
            "delete document.body.dataset.shown; location.hash = arguments[0]", place
        )
        until(browser, "document.body.dataset.shown === location.hash")
        if place.startswith("face?run=0&face=20"):
            until(browser, "document.getElementById('edit-state').textContent === 'no edit'")
        browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
        check(browser, axe)
        if place == "upload?run=0":
            assert check_keys_reach_everything(browser) > 2
        browser.get("about:blank")


def test_the_help(browser: WebDriver, axe: str, shown: Shown) -> None:
    with served(shown.runs()) as server:
        browser.get(server.url)
        until(browser, "document.body.dataset.shown")
        browser.execute_script("document.getElementById('help').showModal()")
        check(browser, axe)
        browser.get("about:blank")


def test_the_page_of_edits(browser: WebDriver, axe: str, edited: Path) -> None:
    with served(EditedRun(str(edited))) as server:
        for query in ("", "?sort=identity", "?name=nobody"):
            browser.get(server.url)
            browser.get(server.url.partition("?")[0] + query)
            check(browser, axe)
            assert check_keys_reach_everything(browser) > 2
        browser.get("about:blank")


def test_the_page_of_a_run_at_work(browser: WebDriver, axe: str, tmp_path: Path) -> None:
    job = Job(tmp_path / "out")
    with served([ViewedRun(str(job.out))]) as server:
        browser.get(server.url)
        job.commit()
        job.commit()
        until(browser, "document.querySelectorAll('#live-rejects li').length === 2")
        until(browser, "[...document.querySelectorAll('#live-newest img')].every(i => i.complete)")
        check(browser, axe)
        browser.get("about:blank")
