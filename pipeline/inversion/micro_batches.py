"""Micro-batches: one thread computes whatever several units have waiting, in full batches.

It never waits for a batch to fill: while it is the bottleneck, the next units' faces are there
already and fill it; while it is not, a partial batch costs nothing that anybody waits for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Made = Sequence[Result] | Callable[[], Sequence[Result]]
"""One result of each item, or what waits for them and gives them, where a GPU is still at work."""


class MicroBatches(Generic[Item, Result]):
    """Joins what several threads want computed.

    Args:
        compute: makes one result of each item, or begins to; only ever called by one thread, the
            same one, which waits for what was begun once it has begun the next batch, if there is
            one.
        size: most items in a batch.
        ahead: results that may wait to be taken before nothing more is computed.

    Attributes:
        size: most items in a batch from now on.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Made[Result]],
        size: int,
        ahead: int | None = None,
    ) -> None:
        self._compute = compute
        self.size = size
        self._ahead = 2 * size if ahead is None else ahead
        self._changed = threading.Condition()
        self._waiting: deque[_Order[Item, Result]] = deque()
        self._untaken = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    def __call__(self, items: Sequence[Item]) -> Iterator[Result]:
        """Results in the order of the items, each as soon as its batch is computed.

        Raises:
            Exception: whatever the computation raises for these items, or for other callers'
                items of the same batch when these fail alone as well.
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
        """Compute nothing more; callers that wait are told so."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _take(self, order: _Order[Item, Result]) -> Result:
        with self._changed:
            self._changed.wait_for(lambda: order.results or order.error or self._closed)
            if order.results:
                self._untaken -= 1
                self._changed.notify_all()
                return order.results.popleft()
            raise order.error or RuntimeError("these micro-batches are closed")

    def _drop(self, order: _Order[Item, Result]) -> None:
        """Forget what nobody will take."""
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
            # A GPU has this batch to do while the results of the one before are fetched.
            if begun is not None:
                self._settle(*begun)
            begun = after

    def _next(self, *, wait: bool) -> list[_Part[Item, Result]] | None:
        """The parts of the next batch, oldest order first; none if there is none; None at the end.

        Args:
            wait: until there is one.
        """

        def ready() -> bool:
            return bool(self._waiting) and self._untaken < self._ahead

        with self._changed:
            self._changed.wait_for(lambda: self._closed or not wait or ready())
            if self._closed:
                return None
            if not ready():
                return []
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

    def _begin(self, parts: Sequence[_Part[Item, Result]]) -> _Begun[Item, Result] | None:
        """Compute a batch; what is left to do if it was only begun."""
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
            # One caller's items must not cost the others theirs.
            for each in parts:
                begun = self._begin([each])
                if begun is not None:
                    self._settle(*begun)
            return
        with self._changed:
            order = parts[0][0]
            order.error = error
            # Nothing of it is wanted any more.
            if order in self._waiting:
                self._waiting.remove(order)
            self._changed.notify_all()


class _Order(Generic[Item, Result]):
    """What one caller wants: its items, how many of them are begun, and results to be taken."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.begun = 0
        self.results: deque[Result] = deque()
        self.error: Exception | None = None
        self.abandoned = False


_Part = tuple[_Order[Item, Result], Sequence[Item]]
_Begun = tuple[Sequence[_Part[Item, Result]], Callable[[], Made[Result]]]
