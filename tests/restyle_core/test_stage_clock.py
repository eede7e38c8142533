from __future__ import annotations

import threading

import pytest

from restyle.core.stage_clock import StageClock, account, stage


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_time_inside_an_inner_stage_counts_for_it_alone(hand: Hand) -> None:
    clock = StageClock(hand)
    with clock.running():
        with stage("landmarks"):
            hand.pass_by(1)
            with stage("detect"):
                hand.pass_by(10)
                with stage("decode"):
                    hand.pass_by(100)
                hand.pass_by(20)
            with stage("detect"):
                hand.pass_by(5)
            hand.pass_by(2)
        hand.pass_by(1000)
        with stage("crop"):
            hand.pass_by(7)
    assert clock.seconds == {"landmarks": 3, "detect": 35, "decode": 100, "crop": 7}


def test_a_stage_that_fails_is_measured_and_the_next_is_right(hand: Hand) -> None:
    clock = StageClock(hand)

    @stage("decode")
    def damaged() -> None:
        hand.pass_by(3)
        raise ValueError("damaged")

    with clock.running():
        with stage("read"), pytest.raises(ValueError, match="damaged"):
            damaged()
        with stage("crop"):
            hand.pass_by(2)
    assert clock.seconds == {"decode": 3, "read": 0, "crop": 2}


def test_nothing_is_measured_where_no_clock_runs(hand: Hand) -> None:
    clock = StageClock(hand)
    with stage("decode"):
        hand.pass_by(1)
    account({"decode": 1.0})
    with clock.running():
        pass
    with stage("decode"):
        hand.pass_by(1)
    assert clock.seconds == {}


def test_a_clock_sums_its_threads_and_other_processes(hand: Hand) -> None:
    clock = StageClock(hand)
    inside = threading.Barrier(2, action=lambda: hand.pass_by(4))

    def work() -> None:
        with clock.running():
            with stage("detect"):
                inside.wait(10)
            account({"detect": 0.5, "crop": 0.25})

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.seconds == {"detect": 2 * 4 + 1, "crop": 0.5}
