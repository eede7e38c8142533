"""Tries are counted and pauses measured on a clock that the test turns itself."""

from __future__ import annotations

import random
import time

import pytest

from restyle.core.errors import FatalError, SpecError, TransientError
from restyle.pipeline.storage.retries import PATIENCE, retrying


class Server:
    """Fails a number of times, then answers."""

    def __init__(self, failures: int, error: Exception | None = None, takes: float = 0.0) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error or TransientError("503")
        self._takes = takes

    def __call__(self) -> str:
        self.calls += 1
        time.sleep(self._takes)
        if self.calls <= self._failures:
            raise self._error
        return "answer"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every sleep, which passes at once."""
    made: list[float] = []
    monkeypatch.delenv("RESTYLE_RETRIES", raising=False)
    monkeypatch.setattr(time, "sleep", made.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(made))
    # Neither shorter nor longer.
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)
    return made


def test_six_tries_in_half_a_minute(pauses: list[float]) -> None:
    server = Server(5)
    assert retrying(server) == "answer"
    assert server.calls == 6
    assert [pause for pause in pauses if pause] == [1, 2, 4, 8, 16]


def test_the_last_failure_is_told_with_their_number(pauses: list[float]) -> None:
    server = Server(99)
    with pytest.raises(TransientError, match=r"^503 \(tried 6 times\)$"):
        retrying(server)
    assert server.calls == 6


def test_a_server_that_hangs_is_not_waited_for_six_times(pauses: list[float]) -> None:
    server = Server(99, takes=120)
    with pytest.raises(TransientError, match="tried 3 times"):
        retrying(server)
    assert sum(pauses) < PATIENCE + 120


@pytest.mark.parametrize("error", [FatalError("full"), FileNotFoundError("gone"), OSError("?")])
def test_nothing_else_is_tried_again(pauses: list[float], error: Exception) -> None:
    server = Server(1, error)
    with pytest.raises(type(error)):
        retrying(server)
    assert server.calls == 1


def test_pauses_differ_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    monkeypatch.setenv("RESTYLE_RETRIES", "2:1")
    for _ in range(200):
        retrying(Server(1))
    seconds = [pause for pause in made if pause]
    assert min(seconds) >= 0.5
    assert max(seconds) <= 1.5
    assert len(set(seconds)) > 100


def test_the_environment_cuts_them_short(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTYLE_RETRIES", "1")
    with pytest.raises(TransientError, match=r"^503$"):
        retrying(Server(1))
    monkeypatch.setenv("RESTYLE_RETRIES", "3:0.25")
    assert retrying(Server(2)) == "answer"
    assert [pause for pause in pauses if pause] == [0.25, 0.5]


@pytest.mark.parametrize("value", ["0", "many", "3:-1", "3:x", "-2"])
def test_a_value_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RESTYLE_RETRIES", value)
    with pytest.raises(SpecError, match="RESTYLE_RETRIES"):
        retrying(Server(0))
