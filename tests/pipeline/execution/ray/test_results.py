from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from restyle.pipeline.execution.block import to_block
from restyle.pipeline.execution.job import UnitResult
from restyle.pipeline.execution.ray import results as results
from restyle.pipeline.execution.ray.results import UnitResults
from restyle.pipeline.execution.watchdog import Stalled


class Output:
    """What a dataset's iterator does, without Ray."""

    def __init__(self, *found: object) -> None:
        self.found = found

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:
        for each in self.found:
            if isinstance(each, threading.Event):
                each.wait(60)
            elif isinstance(each, BaseException):
                raise each
            else:
                yield each


def table(*units: str) -> pa.Table:
    return pa.concat_tables([to_block(unit, UnitResult(unit)) for unit in units])


def names(found: UnitResults) -> list[str]:
    return [result.unit for result in found.until_done(lambda: None, 60)]


def test_every_row_is_a_receipt() -> None:
    assert names(UnitResults(Output(table("a"), table("b", "c"), table("d")))) == list("abcd")


def test_an_error_comes_after_what_came_before_it() -> None:
    found = UnitResults(Output(table("a"), ValueError("broken"))).until_done(lambda: None, 60)
    assert next(found).unit == "a"
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_while_nothing_comes_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            raise Stalled("nothing comes")

    found = UnitResults(Output(table("a"), never))
    taken = found.until_done(look, 0.01)
    assert next(taken).unit == "a"
    with pytest.raises(Stalled):
        next(taken)
    monkeypatch.setattr(results, "_CLOSE_SECONDS", 0.05)
    # It gives up on what does not end.
    found.close()
    assert found._thread.is_alive()
    never.set()
    found._thread.join(60)
    found.close()
