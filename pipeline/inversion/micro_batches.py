"""Micro-batches: one thread computes the items of several callers in common batches.

It never waits for a batch to fill up: while computing is the bottleneck, enough items are waiting;
otherwise partial batches cost no time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Made = Sequence[Result] | Callable[[], Sequence[Result]]
"""One result per item, or a function that waits for a GPU and returns the results."""


class MicroBatches(Generic[Item, Result]):
    """Batches the computations of several threads.

    Args:
        compute: computes or launches a batch, with one result per item. Always called by one
            thread, which waits for a launched batch after it has launched the next one.
        size: maximum number of items in a batch.
        ahead: number of untaken results at which computing pauses.
        now: a clock in seconds.

    Attributes:
        size: maximum number of items in later batches.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Made[Result]],
        size: int,
        ahead: int | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._compute = compute
        self._now = now
        self._starved = 0.0
        self._starving_since: float | None = None
        self._has_computed = False
        self.size = size
        self._ahead = 2 * size if ahead is None else ahead
        self._changed = threading.Condition()
        self._waiting: deque[_Order[Item, Result]] = deque()
        self._untaken = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    def __call__(self, items: Sequence[Item]) -> Iterator[Result]:
        """Yield results in the order of the items, each when its batch is computed.

        Raises:
            Exception: the computation of these items failed.
        """
        order: _Order[Item, Result] = _Order(items)
        with self._changed:
            if self._closed:
                raise RuntimeError("these micro-batches are closed")
            self._waiting.append(order)
            self._changed.notify_all()
        try:
            for _ in items:
                yield self._take(order)
        finally:
            self._drop(order)

    def close(self) -> None:
        """Stop computing; waiting callers get an exception."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def take_starved(self) -> float:
        """Seconds since the last call in which computing waited for items.

        The time before the first items counts for nothing, and a wait once it is over.
        """
        with self._changed:
            starved, self._starved = self._starved, 0.0
        return starved

    def _take(self, order: _Order[Item, Result]) -> Result:
        with self._changed:
            self._changed.wait_for(lambda: order.results or order.error or self._closed)
            if order.results:
                self._untaken -= 1
                self._changed.notify_all()
                return order.results.popleft()
            raise order.error or RuntimeError("these micro-batches are closed")

    def _drop(self, order: _Order[Item, Result]) -> None:
        """Discard items and results of an order."""
        with self._changed:
            order.abandoned = True
            self._untaken -= len(order.results)
            order.results.clear()
            if order in self._waiting:
                self._waiting.remove(order)
            self._changed.notify_all()

    def _run(self) -> None:
        begun: _Begun[Item, Result] | None = None
        while (parts := self._next(wait=begun is None)) is not None:
            after = self._begin(parts)
            # The GPU computes this batch while the results of the previous one are fetched.
            if begun is not None:
                self._settle(*begun)
            begun = after

    def _next(self, *, wait: bool) -> list[_Part[Item, Result]] | None:
        """Parts of the next batch, oldest order first; may be empty; None after closing.

        Args:
            wait: wait until there is a batch.
        """

        def ready() -> bool:
            return bool(self._waiting) and self._untaken < self._ahead

        with self._changed:
            while not self._closed and wait and not ready():
                self._wait()
            if self._closed:
                return None
            if not ready():
                return []
            self._has_computed = True
            parts: list[_Part[Item, Result]] = []
            room = self.size
            while room and self._waiting:
                order = self._waiting[0]
                items = order.items[order.begun : order.begun + room]
                order.begun += len(items)
                room -= len(items)
                parts.append((order, items))
                if order.begun == len(order.items):
                    self._waiting.popleft()
            return [(order, items) for order, items in parts if items]

    def _wait(self) -> None:
        """Wait for a change, and note the time if it is items that are missing."""
        if self._has_computed and not self._waiting:
            self._starving_since = self._now()
        self._changed.wait()
        if self._starving_since is not None:
            self._starved += self._now() - self._starving_since
            self._starving_since = None

    def _begin(self, parts: Sequence[_Part[Item, Result]]) -> _Begun[Item, Result] | None:
        """Compute a batch; returns it if it was only launched."""
        items = [item for _, part in parts for item in part]
        return self._settle(parts, lambda: self._compute(items)) if items else None

    def _settle(
        self, parts: Sequence[_Part[Item, Result]], make: Callable[[], Made[Result]]
    ) -> _Begun[Item, Result] | None:
        try:
            made = make()
        except Exception as error:
            self._failed(parts, error)
            return None
        if callable(made):
            return parts, made
        results = iter(made)
        with self._changed:
            for order, part in parts:
                taken = [next(results) for _ in part]
                if not order.abandoned:
                    order.results.extend(taken)
                    self._untaken += len(taken)
            self._changed.notify_all()
        return None

    def _failed(self, parts: Sequence[_Part[Item, Result]], error: Exception) -> None:
        if len(parts) > 1:
            # Each caller's items are tried alone, because only one may be at fault.
            for each in parts:
                begun = self._begin([each])
                if begun is not None:
                    self._settle(*begun)
            return
        with self._changed:
            order = parts[0][0]
            order.error = error
            # Its remaining items are not needed.
            if order in self._waiting:
                self._waiting.remove(order)
            self._changed.notify_all()


class _Order(Generic[Item, Result]):
    """Items of one caller, the number of started ones, and results not taken yet."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.begun = 0
        self.results: deque[Result] = deque()
        self.error: Exception | None = None
        self.abandoned = False


_Part = tuple[_Order[Item, Result], Sequence[Item]]
_Begun = tuple[Sequence[_Part[Item, Result]], Callable[[], Made[Result]]]
