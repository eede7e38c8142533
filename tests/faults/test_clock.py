"""The clock of the machine jumps by hours, forwards and backwards: nothing may depend on it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from restyle.core.errors import SpecError, TransientError
from restyle.pipeline.accounting.verify import verify
from restyle.pipeline.execution.request import Request
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage import claim as claims
from restyle.pipeline.storage.claim import own_claim
from restyle.pipeline.storage.filesystem import open_storage
from restyle.pipeline.storage.lock import driver_lock
from restyle.pipeline.storage.retries import retrying
from tests.pipeline.in_process import in_process

BEAT = 0.1
HOURS = (5.0, -9.0, 30.0, -400.0)


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock that people read, as far as Python programs see it; not the monotonic one."""
    moved = [0.0]
    really = time.time

    class Moved(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.fromtimestamp(really(), UTC) + timedelta(seconds=moved[0])

    monkeypatch.setattr(time, "time", lambda: really() + moved[0])
    monkeypatch.setattr(claims, "datetime", Moved)

    def jump(hours: float) -> None:
        moved[0] += 3600 * hours

    return jump


def test_the_lock_is_neither_lost_nor_taken(
    tmp_path: Path, jump: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(str(tmp_path / "out"))
    # As two machines would see each other: by signs of life alone.
    places = (f"machine-{number}" for number in itertools.count())
    monkeypatch.setattr(claims, "place", lambda: next(places))
    with driver_lock(storage, Listener(), beat=BEAT) as held:
        for hours in HOURS:
            jump(hours)
            with (
                pytest.raises(SpecError, match="in use by another run"),
                driver_lock(storage, Listener(), beat=BEAT),
            ):
                pass
            held.check()


def test_a_dead_driver_is_waited_for_no_longer_and_no_shorter(
    tmp_path: Path, jump: Callable[[float], None]
) -> None:
    storage = open_storage(str(tmp_path / "out"))
    for hours in HOURS:
        claim = own_claim().model_copy(update={"state": "held", "place": "elsewhere"})
        storage.write(claim.name, claim.model_dump_json().encode())
        timer = threading.Timer(BEAT, jump, [hours])
        timer.start()
        began = time.monotonic()
        with driver_lock(storage, Listener(), beat=BEAT):
            assert 3 * BEAT <= time.monotonic() - began < 30 * BEAT
        timer.join()


def test_trying_again_goes_on(
    jump: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTYLE_RETRIES", "5:0.01")
    hours = iter(HOURS)

    def call() -> str:
        step = next(hours, None)
        if step is None:
            return "answer"
        jump(step)
        raise TransientError("not now")

    began = time.monotonic()
    assert retrying(call) == "answer"
    assert time.monotonic() - began < 5


def test_an_output_made_while_it_jumps(
    tmp_path: Path, tiny_model: Path, jump: Callable[[float], None]
) -> None:
    """Files from the future, and later ones from the past: names and entries are what counts."""
    settings = InversionSettings(
        model=str(tiny_model), steps=1, align=False, metrics=(), reconstructions="none",
        dtype="fp32",
    )  # fmt: skip
    request = Request(str(tmp_path / "images"), str(tmp_path / "out"), settings, device="cpu")
    (tmp_path / "images").mkdir()
    for number, hours in enumerate(HOURS):
        Image.new("RGB", (40, 40), (50 * number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
        jump(hours)
        assert invert_images(request, engine=in_process).images == 1
        assert invert_images(request, engine=in_process).images == 0
    verification = verify(str(tmp_path / "out"))
    assert (verification.problems, verification.images, verification.units) == (
        [],
        len(HOURS),
        len(HOURS),
    )
