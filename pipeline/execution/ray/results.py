"""Iteration over the results of a dataset, with a callback while none arrive."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ray.data._internal.execution.streaming_executor import StreamingExecutor

from restyle.pipeline.execution.block import payload_of
from restyle.pipeline.execution.job import UnitResult

_CLOSE_SECONDS = 15.0


class UnitResults:
    """Reads the results of a dataset in a thread, so that waiting for them can be ended.

    Args:
        dataset: Ray dataset of blocks; its execution begins at once.
    """

    def __init__(self, dataset: Any) -> None:
        self._queue: queue.SimpleQueue[UnitResult | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._take, args=(dataset,), name="results", daemon=True
        )
        self._thread.start()

    def until_done(self, look: Callable[[], None], every: float) -> Iterator[UnitResult]:
        """Yield the results.

        Args:
            look: called regularly while no result arrives; its exceptions end the iteration.
            every: seconds between two calls.
        """
        due = time.monotonic() + every
        while True:
            try:
                found = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                look()
                due = time.monotonic() + every
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found

    def close(self) -> None:
        """End the execution, or abandon it after 30 seconds."""
        if not self._thread.is_alive():
            return
        ending = threading.Thread(target=_end_executions, name="end", daemon=True)
        ending.start()
        ending.join(_CLOSE_SECONDS)
        self._thread.join(_CLOSE_SECONDS)

    def _take(self, dataset: Any) -> None:
        try:
            for table in dataset.iter_batches(
                batch_size=None, prefetch_batches=0, batch_format="pyarrow"
            ):
                for row in range(table.num_rows):
                    self._queue.put(payload_of(table.slice(row, 1)))
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(None)


def _end_executions() -> None:
    for thread in threading.enumerate():
        if isinstance(thread, StreamingExecutor):
            with contextlib.suppress(Exception):
                thread.shutdown(force=True)
