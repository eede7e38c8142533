"""The page of a run that goes on, in headless Chromium: what is committed meanwhile appears."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

from restyle.core.errors import SpecError
from restyle.pipeline.accounting.run_record import now, write_run
from restyle.pipeline.ledger.manifest import Origin, Unit, new_unit, write_plan
from restyle.pipeline.storage.claim import Claim, own_claim
from restyle.pipeline.storage.filesystem import Storage
from restyle.pipeline.viewer import live
from restyle.pipeline.viewer.export import export
from restyle.pipeline.viewer.run import ViewedRun
from tests.browser import served, until
from tests.pipeline.fabricated import Made, fabricate, finish, image, record

MADE = Made(faces=12, rejects=2, steps=2, side=16, unit=4, names=["<b>first.jpg"])


class Job:
    """A run of fourteen inputs in four units, of which the first is done; it lives as this process.

    Attributes:
        out: its output.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._storage: Storage = fabricate(out, Made(faces=0, steps=2))
        inputs = [image(MADE, number) for number in range(14)]
        self._units: list[Unit] = [new_unit(at, inputs[4 * at : 4 * at + 4]) for at in range(4)]
        # They are committed in another order than that of the input.
        self._left = [self._units[at] for at in (1, 0, 3, 2)]
        self._rejected = {each.image_id for each in inputs[12:]}
        write_plan(self._storage, self._units, Origin("/photos"))
        self.commit()
        # Before the record, as a run does.
        self._claim: Claim = own_claim().model_copy(update={"state": "held"})
        begun = record(MADE)
        counts = begun.counts.model_copy(update={"images": 14, "pending_images": 10})
        timings = begun.timings.model_copy(update={"started": now(), "finished": None})
        self._record = begun.model_copy(update={"counts": counts, "timings": timings})
        self._storage.write(self._claim.name, self._claim.model_dump_json().encode())
        self._say("running")

    def commit(self) -> None:
        finish(self._storage, MADE, self._left.pop(0), self._rejected)

    def end(self, state: str) -> None:
        self._say(state)
        self._storage.delete(self._claim.name)

    def _say(self, state: str) -> None:
        write_run(self._storage, self._record.model_copy(update={"state": state}))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(live, "_LEAST_SECONDS", 0.0)
    return Job(tmp_path / "out")


def sources(answer: dict[str, Any]) -> list[str]:
    return [face["source"].rpartition("/")[2] for face in answer["newest"]]


def test_each_look_has_what_was_committed_meanwhile(job: Job) -> None:
    run = ViewedRun(str(job.out))
    assert run.about()["is_running"]
    first = run.live.now()
    assert (first["state"], first["done"], first["inputs"], first["new"]) == ("running", 4, 14, 0)
    assert sources(first) == [f"00000{number}.jpg" for number in (7, 6, 5, 4)]
    job.commit()
    second = run.live.now()
    assert (second["done"], second["faces"], second["new"], second["rejects"]) == (8, 8, 4, [])
    # What came last stands first, whatever its place in the input.
    assert sources(second)[:4] == ["000003.jpg", "000002.jpg", "000001.jpg", "<b>first.jpg"]
    assert second["rate"] is None or second["rate"] > 0
    job.commit()
    third = run.live.now()
    assert (third["done"], third["rejected"], third["new"]) == (10, 2, 4)
    assert {each["count"] for each in third["reasons"]} == {1}
    assert [each["message"] for each in third["rejects"]] == [
        "cannot read /photos/000013.jpg",
        "cannot read /photos/000012.jpg",
    ]
    for face in third["newest"]:
        assert run.live.picture(face["key"])[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(SpecError, match="not among the newest"):
        run.live.picture("no/0")
    job.commit()
    job.end("complete")
    assert run.live.now()["state"] == "complete"
    assert run.live.now()["done"] == 14


def test_only_entries_that_are_new_are_read(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ViewedRun(str(job.out))
    run.live.now()
    read: list[str] = []

    def counted(storage: Storage, units: list[str], entries: Any) -> Any:
        read.extend(units)
        return original(storage, units, entries)

    original = live.read_records
    monkeypatch.setattr(live, "read_records", counted)
    run.live.now()
    assert read == []
    job.commit()
    run.live.now()
    assert len(read) == 1


def test_numbers_of_an_older_page_mean_the_same_faces(job: Job) -> None:
    run = ViewedRun(str(job.out))
    run.about()
    before = run.card(0)
    # It comes before all that is there.
    job.commit()
    run.refresh()
    assert run.card(0)["key"] != before["key"]
    assert run.card(run.number_at(0, before["key"]))["source"] == before["source"]
    assert run.number_at(3, "") == 3
    with pytest.raises(SpecError):
        run.number_at(0, "gone/0")
    # A run that has ended is not read again.
    job.end("interrupted")
    run.about()
    job.commit()
    run.refresh()
    assert len(run.faces) == 8


@pytest.fixture
def page(browser: WebDriver, job: Job) -> Iterator[WebDriver]:
    with served([ViewedRun(str(job.out))]) as server:
        browser.get_log("browser")
        browser.get(server.url)
        yield browser
        errors = [entry["message"] for entry in browser.get_log("browser")]
        browser.get("about:blank")
    assert errors == []


def text(page: WebDriver, name: str) -> str:
    return page.find_element(By.ID, name).text


def test_the_page_follows(page: WebDriver, job: Job) -> None:
    page.execute_script("window.isOld = true")
    until(page, "document.getElementById('live-progress').textContent.includes('4 of 14 inputs')")
    assert page.execute_script("return document.getElementById('live-bar').position") == 4 / 14
    assert text(page, "live-reasons") == "No rejects so far."
    job.commit()
    until(page, "document.getElementById('live-progress').textContent.includes('8 of 14 inputs')")
    until(page, "[...document.querySelectorAll('#live-newest img')].every(i => i.naturalWidth)")
    shown = [each.text for each in page.find_elements(By.CSS_SELECTOR, "#live-newest li")]
    assert len(shown) == 8
    assert shown[0] == "000003.jpg"
    # Names are text.
    assert page.find_elements(By.CSS_SELECTOR, "#live-newest b") == []
    job.commit()
    until(page, "document.querySelectorAll('#live-rejects li').length === 2")
    assert text(page, "live-reasons").startswith("2 rejects: 1 ")
    assert "cannot read /photos/000013.jpg" in text(page, "live-rejects")
    button = page.find_element(By.ID, "live-reload")
    assert button.text == "Show 4 new faces"
    assert text(page, "tab-faces") == "Faces 4"
    button.click()
    until(page, "!window.isOld && document.querySelector('#tab-faces .count').textContent === '8'")
    until(page, "document.querySelectorAll('#cards li').length === 8")
    job.commit()
    job.end("complete")
    until(page, "document.getElementById('live-end').textContent === 'This run is complete.'")
    page.find_element(By.ID, "live-reload").click()
    until(page, "document.querySelector('#tab-faces .count').textContent === '12'")
    assert not page.find_element(By.ID, "live").is_displayed()
    assert not page.find_element(By.ID, "run-state").is_displayed()


def test_a_run_that_is_done_and_an_export_ask_for_nothing(
    job: Job, browser: WebDriver, tmp_path: Path
) -> None:
    export([ViewedRun(str(job.out))], tmp_path / "page", 90)
    browser.get((tmp_path / "page" / "index.html").as_uri())
    until(browser, "document.body.dataset.shown")
    assert browser.find_elements(By.ID, "live") == []
    assert json.loads(browser.execute_script("return JSON.stringify(LIVE.run)")) is None
