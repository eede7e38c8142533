from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from restyle.pipeline.inversion.micro_batches import MicroBatches

PATIENCE = 30


class Doubler:
    """Doubles numbers; the first batch is held until the test opens the gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.begun = threading.Event()
        self.gate = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.threads.add(threading.get_ident())
        self.batches.append(list(items))
        self.begun.set()
        assert self.gate.wait(PATIENCE)
        if any(item < 0 for item in items):
            raise ValueError(f"negative: {list(items)}")
        return [2 * item for item in items]


def waiting(batches: MicroBatches[int, int]) -> int:
    return sum(len(order.items) - order.begun for order in batches._waiting)


def hand_in(
    batches: MicroBatches[int, int], pool: ThreadPoolExecutor, *orders: list[int]
) -> list[list[int]]:
    """Let several threads ask, one after another, while the first batch is held; then let go."""
    compute = batches._compute
    assert isinstance(compute, Doubler)
    futures = [pool.submit(lambda: list(batches(orders[0])))]
    assert compute.begun.wait(PATIENCE)
    for order in orders[1:]:
        before = waiting(batches)
        futures.append(pool.submit(lambda order=order: list(batches(order))))  # type: ignore[misc]
        with batches._changed:
            assert batches._changed.wait_for(
                lambda before=before, order=order: waiting(batches) == before + len(order),  # type: ignore[misc]
                PATIENCE,
            )
    compute.gate.set()
    return [future.result(PATIENCE) for future in futures]


def test_batches_are_filled_across_callers_in_order() -> None:
    compute = Doubler()
    batches = MicroBatches(compute, 4, ahead=100)
    with ThreadPoolExecutor(4) as pool:
        results = hand_in(
            batches, pool, [1, 2, 3, 4, 5, 6], [10, 11, 12], [20], [30, 31, 32, 33, 34, 35]
        )
    assert results == [
        [2, 4, 6, 8, 10, 12],
        [20, 22, 24],
        [40],
        [60, 62, 64, 66, 68, 70],
    ]
    # The first took what was there when it began; no later one is partial but the very last.
    assert compute.batches == [[1, 2, 3, 4], [5, 6, 10, 11], [12, 20, 30, 31], [32, 33, 34, 35]]
    assert len(compute.threads) == 1
    batches.close()


def test_nobody_waits_for_a_batch_to_fill() -> None:
    compute = Doubler()
    compute.gate.set()
    batches = MicroBatches(compute, 32)
    assert list(batches([1, 2])) == [2, 4]
    assert list(batches([])) == []
    assert list(batches([3])) == [6]
    assert compute.batches == [[1, 2], [3]]
    batches.close()


def test_no_more_is_computed_than_is_taken() -> None:
    compute = Doubler()
    compute.gate.set()
    batches = MicroBatches(compute, 2, ahead=4)
    results = batches(list(range(20)))
    assert next(results) == 0
    with batches._changed:
        assert batches._changed.wait_for(lambda: batches._untaken >= 4, PATIENCE)
    # One taken, and at least four but less than four and a batch more untaken.
    assert sum(map(len, compute.batches)) <= 1 + 4 + 2
    assert list(results) == [2 * number for number in range(1, 20)]
    batches.close()


def test_a_failure_is_only_of_those_whose_items_failed() -> None:
    compute = Doubler()
    batches = MicroBatches(compute, 4, ahead=100)

    def ask(order: list[int]) -> list[int] | str:
        try:
            return list(batches(order))
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, [1])
        assert compute.begun.wait(PATIENCE)
        rest = []
        for order in ([2, 3], [-1], [4]):
            before = waiting(batches)
            rest.append(pool.submit(ask, order))
            with batches._changed:
                assert (
                    batches._changed.wait_for(
                        lambda before=before: waiting(batches) > before,  # type: ignore[misc]
                        PATIENCE,
                    )
                    or len(rest) > 2
                )
            if len(rest) == 2:
                break
        compute.gate.set()
        assert first.result(PATIENCE) == [2]
        assert [future.result(PATIENCE) for future in rest] == [[4, 6], "negative: [-1]"]
    # It still works afterwards.
    assert list(batches([7])) == [14]
    batches.close()


def test_nothing_more_is_computed_for_a_caller_whose_items_failed() -> None:
    compute = Doubler()
    compute.gate.set()
    batches = MicroBatches(compute, 2)
    with pytest.raises(ValueError, match=r"negative: \[-1, 1\]"):
        list(batches([-1, 1, 2, 3]))
    assert list(batches([4])) == [8]
    assert compute.batches == [[-1, 1], [4]]
    batches.close()


def test_a_caller_that_leaves_holds_nobody_up() -> None:
    compute = Doubler()
    compute.gate.set()
    batches = MicroBatches(compute, 2, ahead=4)
    results = batches(list(range(100)))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert list(batches([5])) == [10]
    assert batches._untaken == 0
    assert not batches._waiting
    batches.close()


def test_closing_tells_who_waits() -> None:
    compute = Doubler()
    batches = MicroBatches(compute, 2)
    with ThreadPoolExecutor(2) as pool:
        waits = pool.submit(lambda: list(batches([1, 2, 3, 4])))
        assert compute.begun.wait(PATIENCE)
        closing = pool.submit(batches.close)
        with batches._changed:
            assert batches._changed.wait_for(lambda: batches._closed, PATIENCE)
        compute.gate.set()
        closing.result(PATIENCE)
        with pytest.raises(RuntimeError, match="closed"):
            waits.result(PATIENCE)
    with pytest.raises(RuntimeError, match="closed"):
        next(batches([1]))


class Beginner(Doubler):
    """Only begins, and doubles when it is asked for the results."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def __call__(self, items: Sequence[int]) -> Callable[[], list[int]]:  # type: ignore[override]
        results = super().__call__([abs(item) for item in items])
        self.done.append(f"begun {list(items)}")

        def finish() -> list[int]:
            self.done.append(f"ended {list(items)}")
            if any(item < 0 for item in items):
                raise ValueError(f"negative: {list(items)}")
            return results

        return finish


def test_what_was_only_begun_is_ended_once_the_next_batch_is_begun_or_there_is_none() -> None:
    compute = Beginner()
    batches = MicroBatches(compute, 2, ahead=100)
    with ThreadPoolExecutor(2) as pool:
        results = hand_in(batches, pool, [1, 2, 3, 4, 5], [6])
    assert results == [[2, 4, 6, 8, 10], [12]]
    assert compute.done == [
        "begun [1, 2]",
        "begun [3, 4]",
        "ended [1, 2]",
        "begun [5, 6]",
        "ended [3, 4]",
        "ended [5, 6]",
    ]
    assert list(batches([7])) == [14]
    batches.close()


def test_what_fails_at_its_end_costs_the_others_of_its_batch_nothing() -> None:
    compute = Beginner()
    batches = MicroBatches(compute, 4, ahead=100)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(lambda: list(batches([1])))]
        assert compute.begun.wait(PATIENCE)
        for order in ([2, 3], [-4]):
            futures.append(pool.submit(lambda order=order: list(batches(order))))  # type: ignore[misc]
        with batches._changed:
            assert batches._changed.wait_for(lambda: waiting(batches) == 3, PATIENCE)
        compute.gate.set()
        assert futures[0].result(PATIENCE) == [2]
        assert futures[1].result(PATIENCE) == [4, 6]
        with pytest.raises(ValueError, match=r"negative: \[-4\]"):
            futures[2].result(PATIENCE)
    batches.close()


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def starves(batches: MicroBatches[int, int]) -> None:
    """Return once the computing thread waits for items."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        with batches._changed:
            if batches._starving_since is not None:
                return
    raise AssertionError("it does not wait for items")


def test_time_without_items_is_told_from_the_first_batch_on() -> None:
    compute, clock = Doubler(), HandClock()
    batches = MicroBatches(compute, 2, ahead=100, now=clock)
    compute.gate.set()
    # Before the first items there is nothing that alignment could have delivered in time.
    clock.time = 1000
    assert list(batches([1, 2, 3])) == [2, 4, 6]
    starves(batches)
    clock.time += 7
    assert list(batches([4])) == [8]
    starves(batches)
    clock.time += 5
    assert batches.take_starved() == 7
    assert list(batches([5])) == [10]
    starves(batches)
    assert batches.take_starved() == 5
    assert batches.take_starved() == 0
    batches.close()


def test_computing_that_waits_for_its_results_to_be_taken_is_not_starved() -> None:
    compute, clock = Doubler(), HandClock()
    batches = MicroBatches(compute, 2, ahead=2, now=clock)
    compute.gate.set()
    results = batches([1, 2, 3, 4, 5, 6])
    assert next(results) == 2
    clock.time += 50
    assert list(results) == [4, 6, 8, 10, 12]
    starves(batches)
    assert batches.take_starved() == 0
    batches.close()
