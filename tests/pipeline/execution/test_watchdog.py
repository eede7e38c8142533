from __future__ import annotations

import threading

import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.execution import watchdog
from restyle.pipeline.execution.watchdog import Heartbeat, Patience, Stalled, Watchdog

PATIENCE = Patience(unplaced=300, idle=60, busy=1000)


class World:
    """A clock, the heartbeats of workers, and a complaint about their places."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.states: dict[str, list[int]] = {}
        self.complaint = ""
        self.gone: set[str] = set()
        self.dog = Watchdog(
            ("align", "invert"),
            lambda: {
                worker: " ".join(map(str, state)).encode() for worker, state in self.states.items()
            },
            lambda: self.complaint,
            lambda: "*** SIGBUS received",
            lambda worker: worker in self.gone,
            PATIENCE,
            lambda: self.now,
        )

    def live(self, seconds: float, *living: str) -> None:
        """Let time pass, with heartbeats of these workers."""
        for _ in range(int(seconds / watchdog.BEAT)):
            self.now += watchdog.BEAT
            for worker in living:
                self.states[worker][0] += 1
            self.dog.look()


@pytest.fixture
def world() -> World:
    return World()


def test_slow_work_is_work(world: World) -> None:
    world.states = {"align:1": [0, 0, 3], "invert:1": [0, 1, 7]}
    world.live(995, "align:1", "invert:1")
    with pytest.raises(Stalled, match="nothing has come of any work for"):
        world.live(10, "align:1", "invert:1")


def test_each_step_and_each_receipt_counts(world: World) -> None:
    world.states = {"align:1": [0, 0, 3], "invert:1": [0, 1, 7]}
    for _ in range(5):
        world.live(900, "align:1", "invert:1")
        world.states["invert:1"][2] += 1
    for _ in range(5):
        world.live(900, "align:1", "invert:1")
        world.dog.progressed()


def test_workers_without_work_mean_that_something_was_lost(world: World) -> None:
    world.states = {"align:1": [0, 0, 3], "invert:1": [0, 0, 7]}
    world.live(60, "align:1", "invert:1")
    with pytest.raises(Stalled, match="anything to do for 60 s"):
        world.live(10, "align:1", "invert:1")


def test_a_busy_worker_that_died_does_not_count(world: World) -> None:
    world.states = {"align:1": [0, 0, 3], "invert:1": [0, 2, 7], "invert:2": [0, 0, 1]}
    world.live(60, "align:1", "invert:1", "invert:2")
    # Its last words stay; it is believed for half a minute.
    world.live(85, "align:1", "invert:2")
    with pytest.raises(Stalled, match="anything to do"):
        world.live(15, "align:1", "invert:2")


def test_workers_that_die_while_they_start_end_the_run(world: World) -> None:
    world.states = {"align:1": [0, 0, 3]}

    def one_after_another() -> None:
        for number in range(100):
            world.states[f"invert:{number}"] = [0, 1, 0]
            world.live(60, "align:1", f"invert:{number}")

    words = r"6 workers of the stage 'invert' died .* \(\*\*\* SIGBUS received\)"
    with pytest.raises(FatalError, match=words):
        one_after_another()
    assert len(world.states) == 1 + 6 + 1


@pytest.mark.parametrize("known", [4, 5])
def test_workers_that_are_known_to_have_ended_are_not_waited_for(world: World, known: int) -> None:
    world.states = {"align:1": [0, 0, 3]} | {f"invert:{number}": [0, 1, 0] for number in range(5)}
    world.live(watchdog.BEAT, "align:1")
    assert world.dog.working() == {"align": 0, "invert": 5}
    world.gone = {f"invert:{number}" for number in range(known)}
    if known < 5:
        world.live(watchdog.BEAT, "align:1")
        assert world.dog.working() == {"align": 0, "invert": 5 - known}
    else:
        with pytest.raises(FatalError, match="5 workers of the stage 'invert' died"):
            world.live(watchdog.BEAT, "align:1")


@pytest.mark.parametrize("started", ["before", "after", "dead"])
def test_a_worker_that_started_shows_that_they_can(world: World, started: str) -> None:
    world.states = {"align:1": [0, 0, 3]}
    if started != "after":
        world.states["invert:good"] = [0, 0, 1]
        world.live(10, "align:1", "invert:good")
    for number in range(4 if started == "after" else 20):
        world.states[f"invert:{number}"] = [0, 1, 0]
        living = [f"invert:{number}", *(["invert:good"] if started == "before" else [])]
        world.live(10, "align:1", *living)
        world.dog.progressed()
    if started == "after":
        world.states["invert:good"] = [0, 0, 1]
    world.live(55, "align:1", *(["invert:good"] if started != "dead" else []))


def test_nodes_that_go_while_many_workers_start_are_no_reason(world: World) -> None:
    world.states = {"align:1": [0, 0, 3]} | {f"invert:{n}": [0, 1, 0] for n in range(40)}
    world.live(200, "align:1", *(f"invert:{n}" for n in range(10, 40)))
    with pytest.raises(FatalError, match="died while they started"):
        world.live(200, "align:1", "invert:39")


def test_a_stage_without_workers_is_waited_for_longer(world: World) -> None:
    world.states = {"align:1": [0, 0, 3]}
    world.live(300, "align:1")
    with pytest.raises(Stalled, match="no worker for 5 minutes"):
        world.live(10, "align:1")


def test_no_place_for_a_stage_is_final_and_says_what_is_missing(world: World) -> None:
    world.states = {"align:1": [0, 0, 3]}
    world.complaint = "inversion needs 1 GPU, which no node of the cluster offers"
    world.live(300, "align:1")
    with pytest.raises(FatalError, match=r"^inversion needs 1 GPU, .* for 5 minutes now; "):
        world.live(10, "align:1")


def test_a_place_that_comes_in_time_is_well(world: World) -> None:
    world.states = {"align:1": [0, 0, 3]}
    world.complaint = "inversion needs 1 GPU"
    world.live(290, "align:1")
    world.complaint = ""
    world.states["invert:1"] = [0, 1, 0]
    world.live(600, "align:1", "invert:1")


def test_a_heart_tells_what_its_worker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BEAT", 0.005)
    told: list[tuple[int, ...]] = []
    changed = threading.Condition()

    def tell(data: bytes) -> None:
        with changed:
            told.append(tuple(map(int, data.split())))
            changed.notify_all()
        if len(told) == 2:
            raise OSError("nobody listens")

    heartbeat = Heartbeat(tell)
    with changed:
        assert changed.wait_for(lambda: len(told) > 3, 30)
    with heartbeat.at_work(), heartbeat.at_work(), changed:
        assert changed.wait_for(lambda: told[-1][1:] == (2, 0), 30)
    with changed:
        assert changed.wait_for(lambda: told[-1][1:] == (0, 2), 30)
    assert [beats for beats, _, _ in told] == list(range(1, len(told) + 1))


def test_patience_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Patience.chosen() == Patience()
    monkeypatch.setenv("RESTYLE_PATIENCE", "12.5")
    assert Patience.chosen().unplaced == 12.5
    for wrong in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("RESTYLE_PATIENCE", wrong)
        with pytest.raises(SpecError, match="RESTYLE_PATIENCE"):
            Patience.chosen()
