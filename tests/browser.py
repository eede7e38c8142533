"""A headless Chromium that tests drive, and the page of some runs served to it."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from restyle.pipeline.viewer.run import ViewedRun
from restyle.pipeline.viewer.server import Site, ViewServer

WAIT = 60
"""Seconds; only a broken page takes as long, a loaded machine may take some."""


def open_browser(profile: Path) -> WebDriver:
    """Start Chromium without a window.

    Args:
        profile: a folder for what it keeps.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip(
            "no Chromium: the page is not tested (Debian: apt-get install chromium chromium-driver)"
        )
    options = Options()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        # Chromium refuses to start its sandbox as root.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--window-size=1300,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_page_load_timeout(WAIT)
    return browser


@contextlib.contextmanager
def served(site: Site | Sequence[ViewedRun]) -> Iterator[ViewServer]:
    """Serve a page, or the page of runs, on loopback."""
    with ViewServer(site, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(0.05), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def until(browser: WebDriver, condition: str) -> None:
    """Wait until a JavaScript expression is true."""
    wait = WebDriverWait(browser, WAIT, poll_frequency=0.05)
    wait.until(lambda each: each.execute_script(f"return Boolean({condition})"), condition)


_VISIBLE_CONTROLS = """
const found = document.querySelectorAll(
  "a[href], button:not(:disabled), input:not(:disabled), select, summary, [tabindex='0']");
// The skip link is seen when it has the focus; arrows go on from the chosen one of some choices.
return [...found].filter((each) => each.checkVisibility() && each.className !== "skip")
  .filter((each) => each.type !== "radio" || each.checked)
  .map((each) => [...document.querySelectorAll("*")].indexOf(each));
"""
_WHICH_CONTROL = "return [...document.querySelectorAll('*')].indexOf(document.activeElement)"


def check_keys_reach_everything(browser: WebDriver) -> int:
    """Check that the tab key reaches every visible control of a page; return their number."""
    wanted = set(browser.execute_script(_VISIBLE_CONTROLS))
    browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(len(wanted) + 30):
        # Not to the element itself: one for files would take the key for a name.
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.add(browser.execute_script(_WHICH_CONTROL))
    assert wanted <= reached
    return len(wanted)
